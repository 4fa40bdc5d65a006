//! A test binary that has this module runs all its tests at every SIMD level that the machine has.

use std::process::Command;

use bptt::SimdLevel;

/// The variable that tells a test run which level it should find itself at.
const EXPECTED: &str = "BPTT_EXPECT_SIMD";

/// Runs all other tests of this binary once more on each instruction set, and sees to it that it was the one that ran.
#[test]
fn at_every_simd_level() {
    for level in SimdLevel::available() {
        let output = Command::new(std::env::current_exe().expect("the path of this test"))
            .args(["--skip", "at_every_simd_level", "--include-ignored"])
            .env("BPTT_SIMD", level.name())
            .env(EXPECTED, level.name())
            .output()
            .expect("this test runs");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "at {}:\n{text}", level.name());
        assert!(text.contains("level_is_as_expected ... ok"), "at {}:\n{text}", level.name());
    }
}

#[test]
#[ignore = "run by at_every_simd_level"]
fn level_is_as_expected() {
    assert_eq!(SimdLevel::current().name(), std::env::var(EXPECTED).unwrap_or_default());
}
