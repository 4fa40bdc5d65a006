//! Pushing a step of streams makes no system call.
//!
//! On Linux a thread can ask the kernel to end its process at any system call but those that it names (seccomp). A copy
//! of this program does so, pushes a million steps, and then writes that it is done: had a step made a call, to wait for
//! a lock, to get memory or to sleep, it would not have come so far. Page faults are no calls, nor are locks that no one
//! else holds: there are none in the code that a push runs.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use bptt::nn::{Gru, Linear, Lstm};
use bptt::{Model, Shape};
use ndarray::Array2;

mod seccomp {
    //! What `libc` has for `prctl(PR_SET_SECCOMP)`, by hand: see linux/seccomp.h and linux/filter.h.

    use std::ffi::{c_int, c_ulong};

    #[repr(C)]
    struct Instruction {
        code: u16,
        if_true: u8,
        if_false: u8,
        k: u32,
    }

    #[repr(C)]
    struct Program {
        len: u16,
        filter: *const Instruction,
    }

    unsafe extern "C" {
        fn prctl(option: c_int, ...) -> c_int;
    }

    const WRITE: u32 = if cfg!(target_arch = "x86_64") { 1 } else { 64 };

    /// From now on, this thread may call `write`. Any other call ends the process by SIGSYS. False if the kernel has no
    /// filters, or a sandbox does not let one have them.
    pub fn allow_only_write() -> bool {
        const LOAD: u16 = 0x20;
        const JUMP_IF_EQUAL: u16 = 0x15;
        const RETURN: u16 = 0x06;
        const KILL: u32 = 0x8000_0000;
        const ALLOW: u32 = 0x7fff_0000;
        let filter = [
            // The number of the call is the first word that a filter sees.
            Instruction { code: LOAD, if_true: 0, if_false: 0, k: 0 },
            Instruction { code: JUMP_IF_EQUAL, if_true: 1, if_false: 0, k: WRITE },
            Instruction { code: RETURN, if_true: 0, if_false: 0, k: KILL },
            Instruction { code: RETURN, if_true: 0, if_false: 0, k: ALLOW },
        ];
        let program = Program { len: filter.len() as u16, filter: filter.as_ptr() };
        const NO_NEW_PRIVILEGES: c_int = 38;
        const SECCOMP: c_int = 22;
        const FILTER: c_ulong = 2;
        let [zero, one]: [c_ulong; 2] = [0, 1];
        // SAFETY: the arguments are those of prctl(2), and the kernel copies the program before the call returns.
        let results = unsafe {
            [prctl(NO_NEW_PRIVILEGES, one, zero, zero, zero), prctl(SECCOMP, FILTER, &raw const program)]
        };
        results == [0, 0]
    }
}

/// Says what the copy does: `push`; or `call`, which also makes a call.
const TASK: &str = "BPTT_UNDER_A_FILTER";

/// What is written at the end.
const DONE: &[u8] = b"pushed\n";

/// What is written where there are no filters.
const NO_FILTER: &[u8] = b"no filter\n";

#[test]
#[ignore = "run by its neighbours"]
fn under_a_filter() {
    use std::io::Write;

    let Ok(task) = std::env::var(TASK) else { return };
    let model: Model = Model::builder(Shape::new(1, 4))
        .layer("lstm", Lstm::new(8).layers(2))
        .layer("gru", Gru::new(8))
        .layer("linear", Linear::new(2))
        .build(1)
        .unwrap();
    let (mut session, mut streams) = (model.session().unwrap(), model.streams(20).unwrap());
    let (x, which) = (Array2::from_elem((20, 4), 0.5), [3, 19, 0]);
    let some = Array2::from_elem((3, 4), 0.5);
    let mut sum = 0.0;
    let mut stdout = std::io::stdout().lock();
    if !seccomp::allow_only_write() {
        return stdout.write_all(NO_FILTER).expect("a place to write to");
    }
    for i in 0..1_000_000 {
        sum += session.push(&[sum, 0.1, -0.2, 0.3])[0];
        if i % 100 == 0 {
            sum += streams.push(&x)[[7, 1]] + streams.push_some(&which, &some)[[2, 0]];
        }
    }
    if task == "call" {
        drop(std::fs::metadata("/"));
    }
    assert!(sum.is_finite());
    stdout.write_all(DONE).and_then(|()| stdout.flush()).expect("a place to write to");
    // The test harness will make calls, and be ended.
}

/// Whether the copy came to its end; `None` where there are no filters.
#[track_caller]
fn is_done(task: &str) -> Option<bool> {
    const SIGSYS: i32 = 31;
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["under_a_filter", "--exact", "--include-ignored", "--nocapture"])
        .env(TASK, task)
        .output()
        .unwrap();
    if output.stdout.windows(NO_FILTER.len()).any(|part| part == NO_FILTER) {
        println!("this system gives no program a filter of system calls: nothing is tested");
        return None;
    }
    assert_eq!(output.status.signal(), Some(SIGSYS), "{output:?}");
    Some(output.stdout.ends_with(DONE))
}

#[test]
fn a_push_makes_no_system_call() {
    assert_ne!(is_done("push"), Some(false));
}

/// A call would have been noticed.
#[test]
fn a_call_is_noticed() {
    assert_ne!(is_done("call"), Some(true));
}
