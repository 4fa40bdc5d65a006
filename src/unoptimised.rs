//! A word to those whose build leaves this crate unoptimised, once in a process.

use std::ffi::OsStr;
use std::hint::black_box;
use std::io::Write;
use std::path::Path;
use std::sync::Once;
use std::time::Instant;

/// Set to anything, it silences the advice.
const VARIABLE: &str = "BPTT_QUIET";

const ADVICE: &str =
    "bptt: this build is not optimised and about a hundred times slower than it need be. Add to Cargo.toml:

[profile.dev.package.\"*\"]
opt-level = 3

(or use `cargo build --release`; the variable BPTT_QUIET silences this)";

/// The most nanoseconds that [`sum`] takes for a number where it is optimised: hundreds of times what it does take, and a
/// tenth of what it takes where it is not.
const MOST: f64 = 1.0;

/// Says on standard error, the first time that it is called, how to make this build faster, if it is one of this crate
/// without optimisation that does not run tests.
///
/// A release build has nothing of this.
pub(crate) fn advise() {
    static FIRST: Once = Once::new();
    // A build with debug assertions may be optimised, as this repository's own is: that has to be found out.
    if cfg!(debug_assertions) && cfg!(not(target_family = "wasm")) {
        FIRST.call_once(|| {
            let silent = || std::env::var_os(VARIABLE).is_some_and(|value| !value.is_empty());
            let tests = || std::env::current_exe().is_ok_and(|program| runs_tests(&program));
            if nanoseconds() > MOST && !silent() && !tests() {
                // Standard error may be closed.
                let _ = writeln!(std::io::stderr(), "{ADVICE}");
            }
        });
    }
}

/// How long [`sum`] takes for a number, the best of a few times: a thread may be interrupted once, not always.
fn nanoseconds() -> f64 {
    const NUMBERS: u32 = 10_000;
    let time = || {
        let start = Instant::now();
        black_box(sum(black_box(NUMBERS)));
        start.elapsed().as_secs_f64() * 1e9 / f64::from(NUMBERS)
    };
    (0..3).map(|_| time()).fold(f64::INFINITY, f64::min)
}

/// The sum of 1 to `n`. No compiler says in code how it optimises; but every level above 0 makes one expression of this loop,
/// which takes the same time for any `n`, and level 0 makes several calls for each number.
#[inline(never)]
fn sum(n: u32) -> u32 {
    (0..n).map(|x| x.wrapping_add(1)).fold(0, u32::wrapping_add)
}

/// Whether a program is one that `cargo test` or `cargo bench` built, or a doc test.
fn runs_tests(program: &Path) -> bool {
    let folder = program.parent().and_then(Path::file_name).unwrap_or(OsStr::new(""));
    folder == "deps" || folder.to_string_lossy().starts_with("rustdoctest")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_told_by_their_folder() {
        assert!(runs_tests(&std::env::current_exe().unwrap()));
        assert!(runs_tests(Path::new("/tmp/rustdoctestAbC/rust_out")));
        for program in ["/home/me/target/debug/mine", "/home/me/target/debug/examples/mine", "mine", ""] {
            assert!(!runs_tests(Path::new(program)), "{program}");
        }
    }

    /// With `CARGO_PROFILE_DEV_OPT_LEVEL=0` it has to fail: that is how it is seen that it can.
    #[test]
    #[ignore = "measures time, and fails in a build that is not optimised"]
    fn this_build_is_optimised() {
        let found = nanoseconds();
        assert!(found < MOST, "{found} ns for a number");
    }
}
