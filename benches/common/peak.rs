//! The limit of a core: fused multiply-adds on registers only, on the instruction set that the kernels run on.

use std::hint::black_box;

use bptt::SimdLevel;
use pulp::{Arch, Simd, WithSimd};

/// Rounds of a run of some tens of microseconds to a millisecond, beside which its start and end are negligible.
pub const ROUNDS: usize = 20_000;

struct Chains(usize);

impl WithSimd for Chains {
    type Output = (f32, u64);

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) -> Self::Output {
        // Two units with a latency of four cycles, five on some, need ten chains. More than the registers hold beside
        // the two factors would go to the stack in every round.
        if S::REGISTER_COUNT < 32 { chains::<S, 12>(s, self.0) } else { chains::<S, 24>(s, self.0) }
    }
}

#[inline(always)]
fn chains<S: Simd, const N: usize>(s: S, rounds: usize) -> (f32, u64) {
    let (a, b) = (s.splat_f32s(black_box(0.999)), s.splat_f32s(black_box(0.001)));
    let mut acc = [s.splat_f32s(black_box(1.0)); N];
    for _ in 0..rounds {
        for acc in &mut acc {
            *acc = s.mul_add_e_f32s(*acc, a, b);
        }
    }
    let sum = acc.into_iter().fold(s.splat_f32s(0.0), |sum, acc| s.add_f32s(sum, acc));
    (s.reduce_sum_f32s(sum), (2 * N * rounds * S::F32_LANES) as u64)
}

/// Runs so many rounds of independent chains on this thread. Returns their sum, which keeps the compiler from removing
/// the loop, and the number of operations.
pub fn run(rounds: usize) -> (f32, u64) {
    // The crate's own level, which `BPTT_SIMD` may have lowered, so that a share of the peak is one of the same level.
    let arch = match SimdLevel::current() {
        SimdLevel::Portable => Arch::Scalar,
        #[cfg(target_arch = "x86_64")]
        SimdLevel::Avx2 => Arch::V3(pulp::x86::V3::try_new().expect("the crate runs on it")),
        _ => Arch::new(),
    };
    arch.dispatch(Chains(rounds))
}
