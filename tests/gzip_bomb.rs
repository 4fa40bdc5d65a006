//! Small files that unpack to much: what they cost in memory is bounded, and too much is an error, not the end of the
//! program.
//!
//! One test alone in its binary: the allocator counts what all threads of the process hold, and gives no more than a
//! limit.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use bptt::data::read_idx;
use flate2::{Compression, write::GzEncoder};
use ndarray::Ix1;

/// The system's allocator as it is where memory is short: null beyond the limit.
struct Limited;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);

// SAFETY: every call goes on to the system's allocator as it came, or answers null, as an allocator may.
unsafe impl GlobalAlloc for Limited {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        if held > LIMIT.load(Ordering::Relaxed) {
            HELD.fetch_sub(layout.size(), Ordering::Relaxed);
            return ptr::null_mut();
        }
        PEAK.fetch_max(held, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Limited = Limited;

const MIB: usize = 1 << 20;

/// A gzipped IDX vector of elements with this code: its header promises `promised`, and `zeros` bytes follow.
fn bomb(path: &Path, code: u8, promised: u32, zeros: usize) {
    let mut encoder = GzEncoder::new(fs::File::create(path).unwrap(), Compression::best());
    encoder.write_all(&[0, 0, code, 1]).unwrap();
    encoder.write_all(&promised.to_be_bytes()).unwrap();
    let piece = vec![0; MIB];
    (0..zeros / MIB).for_each(|_| encoder.write_all(&piece).unwrap());
    encoder.finish().unwrap();
}

/// What reading the file says, and the most bytes that it held.
fn read(path: &Path, read: impl FnOnce(&Path) -> bptt::Result<()>) -> (String, usize) {
    let before = HELD.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    LIMIT.store(before + 40 * MIB, Ordering::Relaxed);
    let read = read(path);
    LIMIT.store(usize::MAX, Ordering::Relaxed);
    (read.map_or_else(|e| e.to_string(), |()| "read".into()), PEAK.load(Ordering::Relaxed) - before)
}

#[test]
fn a_small_file_takes_no_more_than_it_promises() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bomb.gz");
    let bytes = |path: &Path| read_idx::<u8, Ix1>(path).map(drop);
    let floats = |path: &Path| read_idx::<f64, Ix1>(path).map(drop);

    // It promises ten bytes and holds 64 MiB.
    bomb(&path, 0x08, 10, 64 * MIB);
    assert!(fs::metadata(&path).unwrap().len() < 100_000);
    let (fault, peak) = read(&path, bytes);
    assert!(fault.contains("too long: found more than the 10 bytes"), "{fault}");
    assert!(peak < MIB, "{peak} bytes held");

    // It holds what it promises, which is more than there is memory for.
    for (code, size, all) in [(0x08, 1, bytes as fn(&Path) -> _), (0x0E, 8, floats)] {
        bomb(&path, code, (64 * MIB / size) as u32, 64 * MIB);
        let (fault, peak) = read(&path, all);
        let expected = "found 67108864 bytes of elements, for which there is not enough memory";
        assert!(fault.contains(expected), "{fault}");
        assert!(peak < 40 * MIB, "{peak} bytes held");
    }

    // With memory for twice what has been read, nothing more is needed.
    bomb(&path, 0x0E, (16 * MIB / 8) as u32, 16 * MIB);
    let (fault, peak) = read(&path, floats);
    assert_eq!(fault, "read");
    assert!(peak < 33 * MIB, "{peak} bytes held");
}
