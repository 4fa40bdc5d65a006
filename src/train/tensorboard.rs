//! Event files that TensorBoard reads.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crc::{CRC_32_ISCSI, Crc};
use prost::Message;

use super::{Callback, Epoch, EpochEnd, Flow, Score};
use crate::{Error, Model, Real, Result};

/// Writes loss, accuracy and learning rate of every epoch to event files, which TensorBoard shows while the model trains.
///
/// `TensorBoard::new("runs/1")` writes to `runs/1/train` and, if there is a validation, to `runs/1/valid`, so that
/// `tensorboard --logdir runs` draws both as curves of one chart. The tags are `loss`, `accuracy` and, of the training, `lr`;
/// the step is the epoch. Values are f32. A loss that is not finite is written as it is; a score that does not exist is left
/// out.
///
/// Each run writes files of its own, and none is removed. Of the files in a folder TensorBoard shows what the last one has,
/// after the epochs of earlier ones that precede its own: a run that is resumed continues the curves, even from an epoch before
/// their end, and one that begins again replaces them. Of several ranks, only the first writes.
///
/// # Source
/// Keras's `TensorBoard`; TensorFlow's `event.proto`, `summary.proto` and its records: length, masked CRC-32C of the length,
/// message, masked CRC-32C of the message.
///
/// # Examples
/// ```
/// use bptt::train::TensorBoard;
/// use bptt::{Trainer, loss::CrossEntropy, optim::Adam};
///
/// let trainer: Trainer =
///     Trainer::new(CrossEntropy::default(), Adam::new(1e-3)).callback(TensorBoard::new("runs/1"));
/// # let _ = trainer;
/// ```
#[derive(Debug)]
pub struct TensorBoard {
    folder: PathBuf,
    rank: usize,
    /// How many epochs were done when the run began.
    done: usize,
    /// The open files, from the first epoch that is written.
    train: Option<Events>,
    valid: Option<Events>,
}

impl TensorBoard {
    /// Writes to subfolders of this folder, which are created.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), rank: 0, done: 0, train: None, valid: None }
    }

    fn write(&mut self, epoch: &Epoch, time: f64) -> Result<()> {
        let parts = [("train", Some(epoch.train), &mut self.train), ("valid", epoch.valid, &mut self.valid)];
        for (name, score, events) in parts {
            let Some(Score { loss, accuracy }) = score else { continue };
            let events = match events {
                Some(events) => events,
                none => none.insert(Events::begin(&self.folder.join(name), self.done + 1, time)?),
            };
            let lr = (name == "train").then_some(epoch.lr);
            let values = [("loss", loss), ("accuracy", accuracy), ("lr", lr)];
            let values = values.into_iter().filter_map(|(tag, value)| {
                Some(ValueProto { tag: tag.into(), simple_value: Some(value? as f32) })
            });
            let summary = SummaryProto { value: values.collect() };
            events.write(&EventProto { summary: Some(summary), ..EventProto::new(epoch.epoch, time) })?;
        }
        Ok(())
    }
}

impl<R: Real> Callback<R> for TensorBoard {
    fn on_rank(&mut self, rank: usize) {
        self.rank = rank;
    }

    fn on_start(&mut self, _: &mut Model<R>) -> Result<()> {
        (self.done, self.train, self.valid) = (0, None, None);
        Ok(())
    }

    fn on_resume(&mut self, done: &[Epoch]) -> Result<()> {
        self.done = done.len();
        Ok(())
    }

    fn on_epoch(&mut self, end: EpochEnd<'_, R>) -> Result<Flow> {
        if self.rank == 0 {
            self.write(end.epoch, now())?;
        }
        Ok(Flow::Continue)
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// An event file that is appended to.
#[derive(Debug)]
struct Events {
    path: PathBuf,
    file: File,
}

impl Events {
    /// A new file of a run, or of the part of one that begins with epoch `first`.
    fn begin(folder: &Path, first: usize, time: f64) -> Result<Self> {
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let (path, file) = create(folder, time as u64)?;
        let mut events = Self { path, file };
        let version = EventProto { file_version: Some("brain.Event:2".into()), ..EventProto::new(0, time) };
        events.write(&version)?;
        // TensorBoard drops what earlier files have from this step on.
        let start = SessionProto { status: SessionProto::START };
        events.write(&EventProto { session_log: Some(start), ..EventProto::new(first, time) })?;
        Ok(events)
    }

    /// Appends a record in one write, so that a reader seldom finds a part of one; if it does, it waits for the rest.
    fn write(&mut self, event: &EventProto) -> Result<()> {
        self.file.write_all(&record(&event.encode_to_vec())).map_err(Error::io(&self.path))
    }
}

/// A new file. TensorBoard reads those of a folder in the order of their names, hence the time in front.
fn create(folder: &Path, seconds: u64) -> Result<(PathBuf, File)> {
    for number in 0_u32.. {
        let path = folder.join(format!("events.out.tfevents.{seconds:010}.bptt.{number:03}"));
        match OpenOptions::new().append(true).create_new(true).open(&path) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            opened => return opened.map_err(Error::io(&path)).map(|file| (path, file)),
        }
    }
    Err(Error::io(folder)(io::Error::other("found a file of every number")))
}

/// The record of a message.
fn record(message: &[u8]) -> Vec<u8> {
    let length = (message.len() as u64).to_le_bytes();
    let parts = [&length, &checksum(&length)[..], message, &checksum(message)];
    parts.concat()
}

/// The CRC-32C, rotated and shifted so that a checksum of data that hold checksums is still a good one.
fn checksum(bytes: &[u8]) -> [u8; 4] {
    const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);
    const MASK: u32 = 0xa282_ead8;
    CRC.checksum(bytes).rotate_right(15).wrapping_add(MASK).to_le_bytes()
}

// --- TensorFlow's messages, as far as they are written ---

#[derive(Clone, PartialEq, Message)]
struct EventProto {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<SummaryProto>,
    #[prost(message, optional, tag = "7")]
    session_log: Option<SessionProto>,
}

impl EventProto {
    fn new(step: usize, wall_time: f64) -> Self {
        Self { wall_time, step: step as i64, ..Self::default() }
    }
}

#[derive(Clone, PartialEq, Message)]
struct SummaryProto {
    #[prost(message, repeated, tag = "1")]
    value: Vec<ValueProto>,
}

#[derive(Clone, PartialEq, Message)]
struct ValueProto {
    #[prost(string, tag = "1")]
    tag: String,
    /// One of several kinds of values, so that a 0 is written too.
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

#[derive(Clone, PartialEq, Message)]
struct SessionProto {
    #[prost(int32, tag = "1")]
    status: i32,
}

impl SessionProto {
    /// A run begins, or begins again.
    const START: i32 = 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CRC-32C bit by bit, with the polynomial of Castagnoli reversed.
    fn castagnoli(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(u32::MAX, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
        })
    }

    fn masked(bytes: &[u8]) -> u32 {
        let crc = castagnoli(bytes);
        // The low 15 bits go to the top.
        ((crc % 0x8000) * 0x2_0000 + crc / 0x8000).wrapping_add(0xa282_ead8)
    }

    /// The messages of a file, whose checksums are checked by another code than the one that wrote them.
    fn messages(mut bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        while !bytes.is_empty() {
            let (length, rest) = bytes.split_first_chunk::<8>().unwrap();
            let (sum, rest) = rest.split_first_chunk::<4>().unwrap();
            assert_eq!(u32::from_le_bytes(*sum), masked(length));
            let (message, rest) = rest.split_at(u64::from_le_bytes(*length) as usize);
            let (sum, rest) = rest.split_first_chunk::<4>().unwrap();
            assert_eq!(u32::from_le_bytes(*sum), masked(message));
            all.push(message.to_vec());
            bytes = rest;
        }
        all
    }

    fn epoch(epoch: usize, valid: Option<f64>) -> Epoch {
        let train = Score { loss: Some(0.5), accuracy: Some(0.0) };
        Epoch {
            epoch,
            train,
            valid: valid.map(|loss| Score { loss: Some(loss), accuracy: None }),
            lr: 0.25,
            seconds: 1.0,
        }
    }

    fn files(folder: &Path) -> Vec<PathBuf> {
        let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    }

    /// RFC 3720, B.4, has the checksums of 32 zeros and of 32 bytes of ones.
    #[test]
    fn the_checksums_are_those_of_the_rfc() {
        assert_eq!([castagnoli(&[0; 32]), castagnoli(&[0xff; 32])], [0x8a91_36aa, 0x62a8_ab43]);
        for bytes in [&[][..], &[0; 32], &[0xff; 32], b"123456789"] {
            assert_eq!(checksum(bytes), masked(bytes).to_le_bytes());
        }
    }

    /// Each byte from the definition of the wire format: the number of a field times 8, plus 0 for a varint, 1 for eight
    /// bytes, 2 for a length, 5 for four bytes.
    #[test]
    fn an_epoch_is_these_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let mut board = TensorBoard::new(folder.path());
        board.write(&epoch(3, Some(2.0)), 1.5).unwrap();
        let read = |part: &str| {
            let files = files(&folder.path().join(part));
            assert_eq!(files.len(), 1);
            assert!(files[0].ends_with("events.out.tfevents.0000000001.bptt.000"));
            messages(&fs::read(&files[0]).unwrap())
        };
        let time = [&[9][..], &1.5_f64.to_le_bytes()].concat();
        let version = [&time, &[0x1a, 13][..], b"brain.Event:2"].concat();
        let start = [&time, &[0x10, 1, 0x3a, 2, 8, 1][..]].concat();
        let value = |tag: &str, value: f32| {
            let inner =
                [&[0x0a, tag.len() as u8][..], tag.as_bytes(), &[0x15], &value.to_le_bytes()].concat();
            [&[0x0a, inner.len() as u8][..], &inner].concat()
        };
        let summary = |values: &[u8]| [&time, &[0x10, 3, 0x2a, values.len() as u8][..], values].concat();
        let train = [value("loss", 0.5), value("accuracy", 0.0), value("lr", 0.25)].concat();
        assert_eq!(read("train"), [version.clone(), start.clone(), summary(&train)]);
        assert_eq!(read("valid"), [version, start, summary(&value("loss", 2.0))]);
    }

    /// The run that is resumed after one epoch has a second file, which begins at epoch 2.
    #[test]
    fn a_resumed_run_has_a_file_that_begins_where_it_does() {
        let folder = tempfile::tempdir().unwrap();
        let mut board = TensorBoard::new(folder.path());
        board.write(&epoch(1, None), 1.0).unwrap();
        let mut resumed = TensorBoard::new(folder.path());
        Callback::<f32>::on_resume(&mut resumed, &[epoch(1, None)]).unwrap();
        resumed.write(&epoch(2, None), 1.0).unwrap();
        assert!(!folder.path().join("valid").exists());
        let files = files(&folder.path().join("train"));
        let first =
            |path: &PathBuf| EventProto::decode(&*messages(&fs::read(path).unwrap())[1]).unwrap().step;
        assert_eq!(files.iter().map(first).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let fault = TensorBoard::new(&file).write(&epoch(1, None), 1.0).unwrap_err().to_string();
        assert!(fault.contains("file"), "{fault}");
    }
}
