//! Fashion-MNIST: 60,000 training and 10,000 test images of 28 × 28 grey pixels in 10 classes.

use std::path::{Path, PathBuf};

use ndarray::{Array1, Array3};

use crate::data::{Images, read_idx};
use crate::{Error, Result};

/// The four files, each with or without `.gz`.
const FILES: [&str; 4] = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
];
/// Rows and columns of an image.
const SIDE: usize = 28;

/// Fashion-MNIST, read from the four official files, plain or gzipped.
///
/// They are at <https://github.com/zalandoresearch/fashion-mnist>, and in Debian's package `dataset-fashion-mnist`.
///
/// # Source
/// Xiao, Rasul & Vollgraf 2017, "Fashion-MNIST: a novel image dataset for benchmarking machine learning
/// algorithms".
///
/// # Examples
/// ```
/// use bptt::data::{Dataset, FashionMnist};
///
/// let data = FashionMnist::open("data/fashion-mnist")?;
/// assert_eq!((data.train().len(), data.test().len()), (60_000, 10_000));
/// assert_eq!(FashionMnist::CLASSES[usize::from(data.train().labels()[0])], "Ankle boots");
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct FashionMnist<R = f32> {
    train: Images<R>,
    test: Images<R>,
}

impl FashionMnist {
    /// The classes, in the order of the labels.
    pub const CLASSES: [&str; 10] = [
        "T-shirt/Top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandals",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boots",
    ];

    /// Reads the four files in `folder`.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::File`], naming file and fault, if one is missing, unreadable or malformed, if
    /// images are not 28 × 28, their number is not that of the labels, or a label is not less than 10.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        let [train_images, train_labels, test_images, test_labels] =
            FILES.map(|name| (folder.as_ref(), name));
        Ok(Self { train: read(train_images, train_labels)?, test: read(test_images, test_labels)? })
    }
}

impl<R> FashionMnist<R> {
    /// The same images, read as `Q`; they share the memory.
    pub fn cast<Q>(&self) -> FashionMnist<Q> {
        FashionMnist { train: self.train.cast(), test: self.test.cast() }
    }

    /// The training images.
    pub fn train(&self) -> &Images<R> {
        &self.train
    }

    /// The test images.
    pub fn test(&self) -> &Images<R> {
        &self.test
    }
}

/// The path to file `name`, plain or gzipped.
fn file_in(folder: &Path, name: &str) -> Result<PathBuf> {
    let candidates = [folder.join(name), folder.join(format!("{name}.gz"))];
    candidates.into_iter().find(|path| path.is_file()).ok_or_else(|| {
        let fault =
            if folder.is_dir() { "not found, nor with `.gz`" } else { "not found: there is no such folder" };
        Error::file(folder.join(name), fault)
    })
}

/// Reads a file of images and the file of their labels.
fn read(images: (&Path, &str), labels: (&Path, &str)) -> Result<Images> {
    let images_path = file_in(images.0, images.1)?;
    let labels_path = file_in(labels.0, labels.1)?;
    let images: Array3<u8> = read_idx(&images_path)?;
    let labels: Array1<u8> = read_idx(&labels_path)?;

    let (n, rows, columns) = images.dim();
    if (rows, columns) != (SIDE, SIDE) {
        let fault = format!("found images of {rows} × {columns}, expected {SIDE} × {SIDE}");
        return Err(Error::file(images_path, fault));
    }
    if labels.len() != n {
        let fault = format!("found {} labels, expected {n}, one for each image", labels.len());
        return Err(Error::file(labels_path, fault));
    }
    let classes = FashionMnist::CLASSES;
    if let Some((i, label)) = labels.indexed_iter().find(|&(_, &label)| usize::from(label) >= classes.len()) {
        let fault = format!("found label {label} at {i}, expected less than {}", classes.len());
        return Err(Error::file(labels_path, fault));
    }
    Images::new(images, labels, classes)
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;
    use std::sync::OnceLock;

    use tempfile::TempDir;

    use super::*;
    use crate::data::Dataset;

    /// The real data, read once.
    pub(in crate::data) fn real() -> &'static FashionMnist {
        static DATA: OnceLock<FashionMnist> = OnceLock::new();
        DATA.get_or_init(|| {
            FashionMnist::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("data/fashion-mnist")).unwrap()
        })
    }

    fn idx(sizes: &[u32], data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, sizes.len() as u8];
        sizes.iter().for_each(|size| bytes.extend(size.to_be_bytes()));
        bytes.extend(data);
        bytes
    }

    /// A folder with `n` black images in each half, labelled 0, 1, ….
    fn small(n: u8) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        for half in ["train", "t10k"] {
            let images = idx(&[u32::from(n), 28, 28], &vec![0; usize::from(n) * 784]);
            fs::write(folder.path().join(format!("{half}-images-idx3-ubyte")), images).unwrap();
            let labels = idx(&[u32::from(n)], &(0..n).collect::<Vec<_>>());
            fs::write(folder.path().join(format!("{half}-labels-idx1-ubyte")), labels).unwrap();
        }
        folder
    }

    fn open_error(folder: &Path) -> String {
        FashionMnist::open(folder).unwrap_err().to_string()
    }

    #[test]
    fn real_data_are_what_they_should_be() {
        let data = real();
        assert_eq!((data.train().len(), data.test().len()), (60_000, 10_000));
        assert_eq!(data.train().labels()[..10], [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]);
        assert_eq!(data.test().labels()[..10], [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]);
        for (half, each) in [(data.train(), 6000), (data.test(), 1000)] {
            let mut histogram = [0; 10];
            half.labels().iter().for_each(|&label| histogram[usize::from(label)] += 1);
            assert_eq!(histogram, [each; 10]);
            assert_eq!(half.class_names(), FashionMnist::CLASSES);
        }
        // Row 14 of the first image, as seen with another reader.
        let image = data.train().image(0);
        assert_eq!(image.iter().map(|&p| u32::from(p)).sum::<u32>(), 76_247);
        assert_eq!(
            image.row(14).to_vec(),
            [
                0, 0, 1, 4, 6, 7, 2, 0, 0, 0, 0, 0, 237, 226, 217, 223, 222, 219, 222, 221, 216, 223, 229,
                215, 218, 255, 77, 0
            ]
        );
    }

    #[test]
    fn opens_plain_files() {
        let data = FashionMnist::open(small(3).path()).unwrap();
        assert_eq!((data.train().len(), data.test().labels()), (3, &[0, 1, 2][..]));
    }

    #[test]
    fn what_is_missing_is_named() {
        let folder = small(3);
        fs::remove_file(folder.path().join("t10k-labels-idx1-ubyte")).unwrap();
        assert!(open_error(folder.path()).ends_with("t10k-labels-idx1-ubyte: not found, nor with `.gz`"));
        let message = open_error(Path::new("no/such/folder"));
        assert!(
            message.ends_with("train-images-idx3-ubyte: not found: there is no such folder"),
            "{message}"
        );
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let folder = small(3);
        let put = |name: &str, bytes: Vec<u8>| fs::write(folder.path().join(name), bytes).unwrap();
        put("train-labels-idx1-ubyte", idx(&[2], &[0, 1]));
        assert!(
            open_error(folder.path())
                .ends_with("train-labels-idx1-ubyte: found 2 labels, expected 3, one for each image")
        );
        put("train-labels-idx1-ubyte", idx(&[3], &[0, 10, 1]));
        assert!(
            open_error(folder.path())
                .ends_with("train-labels-idx1-ubyte: found label 10 at 1, expected less than 10")
        );
        put("train-images-idx3-ubyte", idx(&[3, 2, 28], &[0; 168]));
        assert!(
            open_error(folder.path())
                .ends_with("train-images-idx3-ubyte: found images of 2 × 28, expected 28 × 28")
        );
        put("train-images-idx3-ubyte", idx(&[3], &[0; 3]));
        assert!(open_error(folder.path()).ends_with("train-images-idx3-ubyte: found rank 1, expected 3"));
    }
}
