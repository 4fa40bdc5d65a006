//! Files and settings with damage of every kind, by the hundred thousand for each reader: none may panic, take more memory
//! than its input warrants, or return something that cannot be used.
//!
//! The damage is the same in every run. `BPTT_MUTATIONS` says how many inputs each reader gets instead of 100,000;
//! `cargo test --release --test mutated -- --nocapture` prints inputs, seconds and peak memory. `fuzz/` looks further,
//! guided by coverage.

#[path = "common/readers.rs"]
mod readers;
#[path = "common/tensors.rs"]
mod tensors;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::time::Instant;

use bptt::params::StateDict;
use bptt::rng;
use flate2::Compression;
use flate2::write::GzEncoder;
use rand::RngCore;
use tensors::{file, parts, run_file, run_parts};

/// Bytes that a reader may hold at once: its inputs are a few thousand.
const MOST: isize = 8 << 20;

/// The system's allocator, which counts what each thread holds and has nothing for whoever asks for more than 64 MB at once.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

// SAFETY: every call goes on to the system's allocator as it came, or fails.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() > 1 << 26 {
            return std::ptr::null_mut();
        }
        HELD.set(HELD.get() + layout.size() as isize);
        PEAK.set(PEAK.get().max(HELD.get()));
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        HELD.set(HELD.get() - layout.size() as isize);
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Words that mean something to one reader or another.
const WORDS: &[&[u8]] = &[
    b"null",
    b"true",
    b"-1",
    b"0",
    b"1",
    b"2",
    b"1e999",
    b"-0.0",
    b"1e-400",
    b"0.5",
    b"65535",
    b"65536",
    b"4294967295",
    b"4294967296",
    b"268435456",
    b"9223372036854775807",
    b"9223372036854775808",
    b"18446744073709551615",
    b"NaN",
    b"{}",
    b"[]",
    b"[0]",
    b"[[",
    b"{\"",
    b"\"\"",
    b"\\u0000",
    b"\\ud800",
    b"\\n",
    b",",
    b":",
    b"}",
    b"]",
    b"\n",
    b"F64",
    b"F16",
    b"BF16",
    b"I64",
    b"__metadata__",
    b"lstm",
    b"linear",
    b"version",
    b"\x00\x00\x08\x01",
    b"\x1f\x8b\x08\x00",
    b"\xff\xff\xff\xff",
    b"\x00\x00\x00\x00",
    b"\x7f\xff\xff\xff",
    b"\x80\x00\x00\x00",
];

/// Damages bytes once to four times, and mostly once: what is damaged more is seldom read.
fn damage(bytes: &mut Vec<u8>, random: &mut impl RngCore) {
    let most = rng::below(random, 4);
    for _ in 0..=rng::below(random, most + 1) {
        let at = rng::below(random, bytes.len() as u64 + 1) as usize;
        let len = (rng::below(random, 16) as usize).min(bytes.len() - at);
        let word = WORDS[rng::below(random, WORDS.len() as u64) as usize];
        match rng::below(random, 9) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng::below(random, 8),
            1 if at < bytes.len() => bytes[at] = random.next_u64() as u8,
            2 => drop(bytes.drain(at..at + len)),
            3 => bytes.truncate(at),
            4 => {
                let piece = bytes[at..at + len].to_vec();
                let to = rng::below(random, bytes.len() as u64 + 1) as usize;
                bytes.splice(to..to, piece);
            }
            5 => drop(bytes.splice(at..at, word.iter().copied())),
            6 => {
                // A digit, with what belongs to its number, becomes a word.
                let number = |byte: &u8| byte.is_ascii_digit() || b".-+eE".contains(byte);
                let start = bytes[at..].iter().position(u8::is_ascii_digit).map_or(at, |skip| at + skip);
                let end = start + bytes[start..].iter().take_while(|byte| number(byte)).count();
                bytes.splice(start..end, word.iter().copied());
            }
            _ => {
                let end = (at + word.len()).min(bytes.len());
                bytes[at..end].copy_from_slice(&word[..end - at]);
            }
        }
    }
}

/// Gives a safetensors file whose header was damaged the length that it has now: the half of them, so that the damage
/// is not always found at the door.
fn repair_length(bytes: &mut [u8], header: usize, before: usize, random: &mut impl RngCore) {
    if bytes.len() >= 8 && rng::below(random, 4) > 0 {
        let now = (header + bytes.len()).saturating_sub(before);
        bytes[..8].copy_from_slice(&(now as u64).to_le_bytes());
    }
}

/// Reads damaged inputs, one of `share` parts of all that the reader gets.
fn mutated(
    name: &str,
    share: u64,
    seeds: &[Vec<u8>],
    repair: impl Fn(usize, &mut Vec<u8>, &mut dyn RngCore),
    read: fn(&[u8]) -> bool,
) {
    let inputs = std::env::var("BPTT_MUTATIONS").map_or(100_000, |n| n.parse().expect("a number of inputs"));
    let inputs: u64 = inputs / share;
    let (start, mut peak) = (Instant::now(), 0);
    let (mut bytes, mut read_in) = (Vec::new(), 0);
    for i in 0..inputs {
        let mut random = rng::rng(rng::key(&[i]));
        let seed = i as usize % seeds.len();
        bytes.clone_from(&seeds[seed]);
        damage(&mut bytes, &mut random);
        repair(seed, &mut bytes, &mut random);
        let held = HELD.get();
        PEAK.set(held);
        match catch_unwind(AssertUnwindSafe(|| read(&bytes))) {
            Ok(accepted) => read_in += u64::from(accepted),
            Err(panic) => {
                println!("{name}, input {i}: {}", bytes.escape_ascii());
                resume_unwind(panic);
            }
        }
        let taken = PEAK.get() - held;
        assert!(taken <= MOST, "{name}, input {i}: {taken} bytes for {}", bytes.escape_ascii());
        peak = peak.max(taken);
    }
    let (seconds, peak) = (start.elapsed().as_secs_f64(), peak as f64 / 1024.0);
    println!("{name:<18} {inputs} inputs, {read_in} of them read, {seconds:.1} s, {peak:.0} KiB at most");
    // Damage that nothing survives would test the door alone.
    assert!(read_in > inputs / 1000, "{name}: {read_in} of {inputs} inputs were read");
}

fn header(bytes: &[u8]) -> usize {
    u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize
}

/// Files of tensors, with their header's length repaired.
fn mutated_tensors(name: &str, share: u64, seeds: &[Vec<u8>], read: fn(&[u8]) -> bool) {
    let sizes: Vec<_> = seeds.iter().map(|seed| (header(seed), seed.len())).collect();
    let repair = |seed: usize, bytes: &mut Vec<u8>, mut random: &mut dyn RngCore| {
        let (header, before) = sizes[seed];
        repair_length(bytes, header, before, &mut random);
    };
    mutated(name, share, seeds, repair, read);
}

#[test]
fn models() {
    let seeds = [readers::small_model(), readers::other_model()].map(|model| model.to_bytes().unwrap());
    mutated_tensors("models", 2, &seeds, readers::model);
}

/// The description of a model alone is damaged, within a file that is right in all else.
#[test]
fn descriptions() {
    let seeds = [readers::small_model(), readers::other_model()].map(|model| model.to_bytes().unwrap());
    let parts = seeds.map(|seed| parts(&seed, "bptt"));
    let texts: Vec<_> = parts.iter().map(|(_, text)| text.clone().into_bytes()).collect();
    for (i, text) in texts.into_iter().enumerate() {
        let whole = |_: usize, bytes: &mut Vec<u8>, _: &mut dyn RngCore| {
            let text = String::from_utf8_lossy(bytes).into_owned();
            *bytes = file(&parts[i].0, "bptt", Some(text));
        };
        mutated("settings of layers", 4, &[text], whole, readers::model);
    }
}

#[test]
fn state_dicts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state_dict");
    let names = StateDict::new().rename("module.rnn", "rnn").rename("module.fc", "linear");
    readers::small_model().save_state_dict(&path, &names).unwrap();
    let renamed = std::fs::read(&path).unwrap();
    mutated_tensors(
        "state dicts",
        1,
        &[renamed, readers::small_model().to_bytes().unwrap()],
        readers::state_dict,
    );
}

#[test]
fn runs() {
    let seed = readers::run_file();
    let (tensors, content) = run_parts(&seed);
    // What is damaged is the content, whose check value is then right: else nothing behind it would ever be reached.
    let whole = |_: usize, bytes: &mut Vec<u8>, mut random: &mut dyn RngCore| {
        *bytes = run_file(&tensors, &String::from_utf8_lossy(bytes));
        if rng::below(&mut random, 8) == 0 {
            damage(bytes, &mut random);
        }
    };
    mutated("runs", 2, &[content.into_bytes()], whole, readers::run);
    mutated_tensors("runs' files", 2, &[seed], readers::run);
}

#[test]
fn idx() {
    let plain = [0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6].to_vec();
    let wide = [0, 0, 0x0d, 1, 0, 0, 0, 2, 0x3f, 0x80, 0, 0, 0, 0, 0, 0].to_vec();
    let packed = |bytes: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let many = [&[0, 0, 8, 1, 0, 0, 4, 0][..], &[7; 1024]].concat();
    let seeds = [packed(&plain), packed(&many), plain, wide];
    mutated("idx", 1, &seeds, |_, _, _| (), readers::idx);
}

#[test]
fn studies() {
    let seed = "{\"bptt-study\":1}\n\
        {\"config\":{\"lr\":0.1,\"n\":2},\"result\":0.5,\"seconds\":0.25}\n\
        {\"config\":{\"lr\":0.2,\"n\":3},\"result\":[1,{\"a\":null}],\"seconds\":1.5}\n";
    mutated("studies", 1, &[seed.into()], |_, _, _| (), readers::study);
}

#[test]
fn settings() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/old");
    let json = |name: &str| std::fs::read(folder.join(name)).unwrap();
    let old: serde_json::Value = serde_json::from_slice(&json("settings.json")).unwrap();
    let seeds: Vec<_> = (0..)
        .zip(readers::SETTINGS)
        .map(|(kind, (name, _))| {
            let text = match *name {
                "history" | "confusion" => json(&format!("{name}.json")),
                "weighted_mean" => old["cross_entropy"].to_string().into_bytes(),
                name => old[name].to_string().into_bytes(),
            };
            [&[kind][..], &text].concat()
        })
        .collect();
    // The kind stays as it is, or there would be little but errors at the first letter.
    let kind = |seed: usize, bytes: &mut Vec<u8>, _: &mut dyn RngCore| {
        if let Some(kind) = bytes.first_mut() {
            *kind = seeds[seed][0];
        }
    };
    mutated("settings", 1, &seeds, kind, readers::settings);
}
