//! The IDX format of the MNIST files: big-endian, two zero bytes, element type, rank, sizes, elements.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use byteorder::{BigEndian, ByteOrder};
use flate2::bufread::MultiGzDecoder;
use ndarray::{Array, Dimension, IxDyn};

use crate::error::BYTES;
use crate::{Error, Result};

/// The most bytes of elements that are read from one file, 4 GiB.
const MAX_BYTES: u64 = 1 << 32;
/// The most bytes that a byte of gzip can hold: 1,032, from deflate's longest match of 258 bytes in two bits, and a margin.
const MAX_INFLATION: u64 = 1100;
/// How many bytes are read and decoded at once: few enough to stay in the cache, and a multiple of every element's size.
const PIECE: usize = 1 << 16;

/// The types of elements that the IDX format has.
pub trait IdxElem: sealed::Decode {}
impl IdxElem for u8 {}
impl IdxElem for i8 {}
impl IdxElem for i16 {}
impl IdxElem for i32 {}
impl IdxElem for f32 {}
impl IdxElem for f64 {}

mod sealed {
    /// The elements of an IDX file.
    pub trait Decode: Copy {
        /// The element type's code in the file.
        const CODE: u8;
        /// Appends the elements of big-endian bytes, whose number is a multiple of the element's size.
        fn decode(bytes: &[u8], values: &mut Vec<Self>);
    }
}

impl sealed::Decode for u8 {
    const CODE: u8 = 0x08;
    fn decode(bytes: &[u8], values: &mut Vec<Self>) {
        values.extend_from_slice(bytes);
    }
}

impl sealed::Decode for i8 {
    const CODE: u8 = 0x09;
    fn decode(bytes: &[u8], values: &mut Vec<Self>) {
        values.extend(bytes.iter().map(|byte| byte.cast_signed()));
    }
}

impl sealed::Decode for i16 {
    const CODE: u8 = 0x0B;
    fn decode(bytes: &[u8], values: &mut Vec<Self>) {
        values.extend(bytes.chunks_exact(size_of::<Self>()).map(BigEndian::read_i16));
    }
}

impl sealed::Decode for i32 {
    const CODE: u8 = 0x0C;
    fn decode(bytes: &[u8], values: &mut Vec<Self>) {
        values.extend(bytes.chunks_exact(size_of::<Self>()).map(BigEndian::read_i32));
    }
}

impl sealed::Decode for f32 {
    const CODE: u8 = 0x0D;
    fn decode(bytes: &[u8], values: &mut Vec<Self>) {
        values.extend(bytes.chunks_exact(size_of::<Self>()).map(BigEndian::read_f32));
    }
}

impl sealed::Decode for f64 {
    const CODE: u8 = 0x0E;
    fn decode(bytes: &[u8], values: &mut Vec<Self>) {
        values.extend(bytes.chunks_exact(size_of::<Self>()).map(BigEndian::read_f64));
    }
}

/// Reads an IDX file, plain or gzipped; its first bytes decide which, not its name.
///
/// The rank is that of the array type: an `Array3`, or an `ArrayD` for any rank. Memory is never allocated only because
/// the header asks for it: a plain file must be as long as its header says, and a gzipped one is unpacked piece by piece,
/// never beyond what its header says.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read. [`Error::File`] if it is not an IDX file, has other elements or a different
/// rank than requested, is shorter or longer than its header says, promises more than 4 GiB or more than there is memory
/// for, or is corrupt gzip.
///
/// # Examples
/// ```
/// use ndarray::{Array2, array};
///
/// # let folder = tempfile::tempdir()?;
/// let path = folder.path().join("six.idx");
/// std::fs::write(&path, [0, 0, 0x08, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6])?;
///
/// let six: Array2<u8> = bptt::data::read_idx(&path)?;
/// assert_eq!(six, array![[1, 2, 3], [4, 5, 6]]);
///
/// let wrong = bptt::data::read_idx::<u8, ndarray::Ix3>(&path).unwrap_err();
/// assert!(wrong.to_string().ends_with("found rank 2, expected 3"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read_idx<T: IdxElem, D: Dimension>(path: impl AsRef<Path>) -> Result<Array<T, D>> {
    let path = path.as_ref();
    let open = || {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        Ok((BufReader::new(file), size))
    };
    let read = open().map_err(Fault::Io).and_then(|(file, size)| read(file, size));
    read.map_err(|fault| fault.at(path))
}

/// Reads an IDX file from its bytes, plain or gzipped, for example from `include_bytes!`; see [`read_idx`].
///
/// # Errors
/// As for [`read_idx`]; the error names `<bytes>` instead of a file.
///
/// # Examples
/// ```
/// let labels: ndarray::Array1<u8> = bptt::data::read_idx_bytes(&[0, 0, 8, 1, 0, 0, 0, 3, 5, 6, 7])?;
/// assert_eq!(labels.to_vec(), [5, 6, 7]);
/// # Ok::<(), bptt::Error>(())
/// ```
pub fn read_idx_bytes<T: IdxElem, D: Dimension>(bytes: &[u8]) -> Result<Array<T, D>> {
    read(bytes, bytes.len() as u64).map_err(|fault| fault.at(Path::new(BYTES)))
}

/// An error, before the name of the file is known.
enum Fault {
    Io(io::Error),
    Content(String),
}

impl Fault {
    fn at(self, path: &Path) -> Error {
        match self {
            Self::Io(source) => Error::io(path)(source),
            Self::Content(fault) => Error::file(path, fault),
        }
    }
}

impl From<String> for Fault {
    fn from(fault: String) -> Self {
        Self::Content(fault)
    }
}

/// An error without a code of the operating system comes from the decoder.
fn fault(error: io::Error, gzip: bool) -> Fault {
    if gzip && error.raw_os_error().is_none() {
        return Fault::Content(format!("corrupt or truncated gzip: {error}"));
    }
    Fault::Io(error)
}

/// Reads a file of `size` bytes, plain or gzipped.
fn read<T: IdxElem, D: Dimension>(mut file: impl BufRead, size: u64) -> Result<Array<T, D>, Fault> {
    let gzip = file.fill_buf().map_err(Fault::Io)?.starts_with(&[0x1f, 0x8b]);
    if gzip {
        read_from(&mut MultiGzDecoder::new(file), size, true)
    } else {
        read_from(&mut file, size, false)
    }
}

/// Reads header and elements; `size` is that of the file.
fn read_from<T: IdxElem, D: Dimension>(
    from: &mut impl Read,
    size: u64,
    gzip: bool,
) -> Result<Array<T, D>, Fault> {
    let rank = read_magic::<T>(from, gzip)?;
    if let Some(expected) = D::NDIM.filter(|&expected| expected != rank) {
        return Err(format!("found rank {rank}, expected {expected}").into());
    }
    let sizes = read_sizes(from, rank, gzip)?;
    let length = checked_length::<T>(&sizes)?;
    let header = 4 + 4 * rank as u64;
    if !gzip && size != header + length as u64 {
        let fault = format!("found {size} bytes, expected {} for {sizes:?}", header + length as u64);
        return Err(fault.into());
    }
    if gzip && length as u64 / MAX_INFLATION > size {
        return Err(format!("found {size} bytes of gzip, which cannot hold {length} for {sizes:?}").into());
    }

    let (values, found) = read_elements::<T>(from, length, gzip)?;
    if found < length {
        return Err(format!("truncated: found {found} bytes of elements, expected {length}").into());
    }
    // One more read also makes the decoder check the end of a gzip file.
    if from.read(&mut [0]).map_err(|e| fault(e, gzip))? > 0 {
        return Err(format!("too long: found more than the {length} bytes of elements expected").into());
    }
    Array::from_shape_vec(IxDyn(&sizes), values)
        .and_then(|array| array.into_dimensionality())
        .map_err(|e| Fault::Content(format!("sizes {sizes:?}: {e}")))
}

/// Reads the four bytes of the magic number, checks the element type, and returns the rank.
fn read_magic<T: IdxElem>(from: &mut impl Read, gzip: bool) -> Result<usize, Fault> {
    let mut magic = Vec::with_capacity(4);
    from.by_ref().take(4).read_to_end(&mut magic).map_err(|e| fault(e, gzip))?;
    let &[zero0, zero1, code, rank] = magic.as_slice() else {
        return Err(
            format!("truncated: found {} bytes, expected an IDX magic number of 4", magic.len()).into()
        );
    };
    if (zero0, zero1) != (0, 0) || type_name(code).is_none() {
        let found = BigEndian::read_u32(&magic);
        let expected = format!("0x0000{:02x}, then the rank", T::CODE);
        return Err(format!("not an IDX file: found magic number {found:#010x}, expected {expected}").into());
    }
    if code != T::CODE {
        let name = |code| type_name(code).unwrap_or("unknown");
        let fault = format!("found elements of type {}, expected {}", name(code), name(T::CODE));
        return Err(fault.into());
    }
    Ok(usize::from(rank))
}

/// The name of an IDX element type.
fn type_name(code: u8) -> Option<&'static str> {
    match code {
        0x08 => Some("u8"),
        0x09 => Some("i8"),
        0x0B => Some("i16"),
        0x0C => Some("i32"),
        0x0D => Some("f32"),
        0x0E => Some("f64"),
        _ => None,
    }
}

/// Reads the size of each axis.
fn read_sizes(from: &mut impl Read, rank: usize, gzip: bool) -> Result<Vec<usize>, Fault> {
    let mut bytes = Vec::with_capacity(4 * rank);
    from.by_ref().take(4 * rank as u64).read_to_end(&mut bytes).map_err(|e| fault(e, gzip))?;
    if bytes.len() < 4 * rank {
        let fault = format!("truncated: found {} bytes of sizes, expected {}", bytes.len(), 4 * rank);
        return Err(fault.into());
    }
    Ok(bytes.chunks_exact(4).map(|size| BigEndian::read_u32(size) as usize).collect())
}

/// The number of bytes that elements of these sizes take.
fn checked_length<T: IdxElem>(sizes: &[usize]) -> Result<usize, Fault> {
    sizes
        .iter()
        .try_fold(size_of::<T>(), |length, &size| length.checked_mul(size))
        .filter(|&length| length as u64 <= MAX_BYTES)
        .ok_or_else(|| {
            Fault::Content(format!(
                "absurdly large: found sizes {sizes:?}, expected at most {MAX_BYTES} bytes"
            ))
        })
}

/// Reads the elements of `length` bytes, or as many as there are, and returns them with the number of bytes found.
/// Memory grows with what has been read, to at most twice as much and never beyond `length`.
fn read_elements<T: IdxElem>(
    from: &mut impl Read,
    length: usize,
    gzip: bool,
) -> Result<(Vec<T>, usize), Fault> {
    let size = size_of::<T>();
    let (mut values, mut found) = (Vec::new(), 0);
    let mut piece = Vec::with_capacity(PIECE);
    while found < length {
        let wanted = PIECE.min(length - found);
        piece.clear();
        from.by_ref().take(wanted as u64).read_to_end(&mut piece).map_err(|e| fault(e, gzip))?;
        found += piece.len();
        let whole = piece.len() / size;
        if values.capacity() - values.len() < whole {
            let more = values.len().max(whole).min(length / size - values.len());
            let no_memory =
                |_| format!("found {length} bytes of elements, for which there is not enough memory");
            values.try_reserve_exact(more).map_err(no_memory)?;
        }
        T::decode(&piece[..whole * size], &mut values);
        if piece.len() < wanted {
            break;
        }
    }
    Ok((values, found))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};
    use ndarray::{Array0, Array1, Array2, Array3, ArrayD, array};

    use super::*;

    const SIX: [u8; 18] = [0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6];

    fn gz(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn with_file<T>(bytes: &[u8], read: impl FnOnce(&Path) -> T) -> T {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, bytes).unwrap();
        read(&path)
    }

    /// The fault that reading `bytes` as a matrix of `u8` gives.
    #[track_caller]
    fn fault_of(bytes: &[u8]) -> String {
        with_file(bytes, |path| match read_idx::<u8, ndarray::Ix2>(path) {
            Err(Error::File { path: named, fault }) => {
                assert_eq!(named, path);
                fault
            }
            other => panic!("found {other:?}, expected Error::File"),
        })
    }

    #[test]
    fn reads_plain_and_gzip_alike() {
        let expected = array![[1, 2, 3], [4, 5, 6]];
        let plain: Array2<u8> = with_file(&SIX, |p| read_idx(p)).unwrap();
        let packed: Array2<u8> = with_file(&gz(&SIX), |p| read_idx(p)).unwrap();
        let any: ArrayD<u8> = with_file(&SIX, |p| read_idx(p)).unwrap();
        assert_eq!(plain, expected);
        assert_eq!(packed, expected);
        assert_eq!(any, expected.into_dyn());
    }

    #[test]
    fn reads_gzip_in_several_members() {
        let members = [gz(&SIX[..7]), gz(&SIX[7..])].concat();
        let read: Array2<u8> = with_file(&members, |p| read_idx(p)).unwrap();
        assert_eq!(read, array![[1, 2, 3], [4, 5, 6]]);
    }

    /// Every type of element, two or three values each, as in the files of QMNIST (labels are `i32`).
    #[test]
    fn reads_integers_big_endian() {
        let signed = [0, 0, 0x09, 1, 0, 0, 0, 3, 0x80, 0xFF, 0x7F];
        let read: Array1<i8> = with_file(&signed, |p| read_idx(p)).unwrap();
        assert_eq!(read, array![-128, -1, 127]);
        let short = [0, 0, 0x0B, 1, 0, 0, 0, 2, 0x01, 0x02, 0x80, 0x00];
        let read: Array1<i16> = with_file(&short, |p| read_idx(p)).unwrap();
        assert_eq!(read, array![0x0102, i16::MIN]);
        let int = [0, 0, 0x0C, 2, 0, 0, 0, 1, 0, 0, 0, 2, 0x01, 0x02, 0x03, 0x04, 0xFF, 0xFF, 0xFF, 0xFE];
        for file in [int.to_vec(), gz(&int)] {
            let read: Array2<i32> = with_file(&file, |p| read_idx(p)).unwrap();
            assert_eq!(read, array![[0x0102_0304, -2]]);
        }
        let fault = with_file(&int, |p| read_idx::<u8, ndarray::Ix2>(p)).unwrap_err().to_string();
        assert!(fault.ends_with("found elements of type i32, expected u8"), "{fault}");
        // Half an element does not count as one, so what was found is counted in bytes.
        let fault = with_file(&gz(&int[..18]), |p| read_idx::<i32, ndarray::Ix2>(p)).unwrap_err().to_string();
        assert!(fault.ends_with("truncated: found 6 bytes of elements, expected 8"), "{fault}");
    }

    #[test]
    fn reads_floats_big_endian() {
        let single = [0, 0, 0x0D, 1, 0, 0, 0, 2, 0x3F, 0x80, 0, 0, 0xC0, 0x20, 0, 0];
        let read: Array1<f32> = with_file(&single, |p| read_idx(p)).unwrap();
        assert_eq!(read, array![1.0, -2.5]);
        let double = [0, 0, 0x0E, 0, 0x40, 0x09, 0x21, 0xFB, 0x54, 0x44, 0x2D, 0x18];
        let read: Array0<f64> = with_file(&double, |p| read_idx(p)).unwrap();
        assert_eq!(read.into_scalar(), std::f64::consts::PI);
    }

    #[test]
    fn reads_more_than_one_piece() {
        let n = 19 * PIECE + 7;
        let mut bytes = [[0, 0, 8, 1], (n as u32).to_be_bytes()].concat();
        bytes.extend((0..n).map(|i| (i * i / 3) as u8));
        for file in [gz(&bytes), bytes.clone()] {
            let read: Array1<u8> = with_file(&file, |p| read_idx(p)).unwrap();
            assert!(read.as_slice().unwrap() == &bytes[8..]);
        }
    }

    #[test]
    fn reads_an_array_of_nothing() {
        let read: Array2<u8> = with_file(&[0, 0, 8, 2, 0, 0, 0, 0, 0, 0, 0, 3], |p| read_idx(p)).unwrap();
        assert_eq!(read.dim(), (0, 3));
    }

    #[test]
    fn missing_file_is_named() {
        let error = read_idx::<u8, ndarray::Ix2>("no/such/file").unwrap_err();
        assert!(matches!(&error, Error::Io { path, .. } if path == Path::new("no/such/file")), "{error}");
    }

    #[test]
    fn truncation_anywhere_is_an_error() {
        assert_eq!(fault_of(&[]), "truncated: found 0 bytes, expected an IDX magic number of 4");
        assert_eq!(fault_of(&SIX[..3]), "truncated: found 3 bytes, expected an IDX magic number of 4");
        assert_eq!(fault_of(&SIX[..11]), "truncated: found 7 bytes of sizes, expected 8");
        assert_eq!(fault_of(&SIX[..17]), "found 17 bytes, expected 18 for [2, 3]");
        assert_eq!(fault_of(&gz(&[])), "truncated: found 0 bytes, expected an IDX magic number of 4");
        assert_eq!(fault_of(&gz(&SIX[..11])), "truncated: found 7 bytes of sizes, expected 8");
        assert_eq!(fault_of(&gz(&SIX[..17])), "truncated: found 5 bytes of elements, expected 6");
        for cut in 0..SIX.len() {
            fault_of(&SIX[..cut]);
        }
    }

    #[test]
    fn a_longer_file_is_an_error() {
        let long = [&SIX[..], &[7]].concat();
        assert_eq!(fault_of(&long), "found 19 bytes, expected 18 for [2, 3]");
        assert_eq!(fault_of(&gz(&long)), "too long: found more than the 6 bytes of elements expected");
    }

    #[test]
    fn another_format_is_an_error() {
        assert_eq!(
            fault_of(b"\x89PNG\r\n"),
            "not an IDX file: found magic number 0x89504e47, expected 0x000008, then the rank"
        );
        assert!(fault_of(&[0, 0, 0x0A, 2, 0]).starts_with("not an IDX file: found magic number 0x00000a02"));
    }

    #[test]
    fn other_elements_or_rank_are_an_error() {
        let floats = [0, 0, 0x0D, 2, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(fault_of(&floats), "found elements of type f32, expected u8");
        let vector = [0, 0, 8, 1, 0, 0, 0, 1, 9];
        assert_eq!(fault_of(&vector), "found rank 1, expected 2");
        let cube: Result<Array3<u8>> = with_file(&SIX, |p| read_idx(p));
        assert!(cube.unwrap_err().to_string().ends_with("found rank 2, expected 3"));
    }

    #[test]
    fn absurd_sizes_are_an_error() {
        // 2³² − 1 squared fits 64 bits, and is far too much; to the third power it overflows.
        let huge = [&[0, 0, 8, 2][..], &[0xFF; 8]].concat();
        assert!(fault_of(&huge).starts_with("absurdly large: found sizes [4294967295, 4294967295]"));
        assert!(fault_of(&gz(&huge)).starts_with("absurdly large"));
        let overflow = [&[0, 0, 8, 3][..], &[0xFF; 12]].concat();
        let fault = with_file(&overflow, |p| read_idx::<u8, IxDyn>(p)).unwrap_err();
        assert!(fault.to_string().contains("absurdly large"), "{fault}");

        // Under the cap, but the file is tiny.
        let large = [0, 0, 8, 2, 0, 0, 0xFF, 0xFF, 0, 0, 0xFF, 0xFF, 1];
        assert_eq!(fault_of(&large), "found 13 bytes, expected 4294836237 for [65535, 65535]");
        assert!(fault_of(&gz(&large)).contains("which cannot hold 4294836225"));
        // If 40 bytes of gzip could just hold it, only unpacking decides.
        let some = [0, 0, 8, 2, 0, 0, 0, 100, 0, 0, 0, 100, 1];
        assert_eq!(fault_of(&gz(&some)), "truncated: found 1 bytes of elements, expected 10000");
    }

    #[test]
    fn corrupt_gzip_is_an_error() {
        let good = gz(&SIX);
        for cut in 2..good.len() {
            let fault = fault_of(&good[..cut]);
            assert!(fault.starts_with("corrupt or truncated gzip: "), "cut at {cut}: {fault}");
        }
        let mut checksum = good.clone();
        let at = checksum.len() - 8;
        checksum[at] ^= 1;
        assert!(fault_of(&checksum).starts_with("corrupt or truncated gzip: "));
        let trailing = [&good[..], b"trailing"].concat();
        assert!(fault_of(&trailing).starts_with("corrupt or truncated gzip: "));
    }
}
