#![no_main]

#[path = "../../tests/common/readers.rs"]
mod readers;
#[path = "../../tests/common/tensors.rs"]
mod tensors;

use std::sync::LazyLock;

/// The tensors of a run's file that is right.
static TENSORS: LazyLock<tensors::Tensors> = LazyLock::new(|| tensors::run_parts(&readers::run_file()).0);

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    readers::run(bytes);
    // No fuzzer guesses the check value of what it has changed, so text is also read as the content that is checked.
    if let Ok(content) = std::str::from_utf8(bytes) {
        readers::run(&tensors::run_file(&TENSORS, content));
    }
});
