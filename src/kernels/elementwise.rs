//! Plain loops over slices, which the compiler vectorises for the instruction set they are dispatched to.

use crate::Scalar;

/// a += b
#[inline(always)]
pub fn accumulate<R: Scalar>(a: &mut [R], b: &[R]) {
    a.iter_mut().zip(b).for_each(|(a, b)| *a += *b);
}

/// y = factor (a + b), or factor a where `b` is empty.
#[inline(always)]
pub fn scaled_sum<R: Scalar>(y: &mut [R], a: &[R], b: &[R], factor: R) {
    debug_assert!(y.len() == a.len() && (b.is_empty() || b.len() == a.len()));
    if b.is_empty() {
        y.iter_mut().zip(a).for_each(|(y, a)| *y = *a * factor);
    } else {
        y.iter_mut().zip(a).zip(b).for_each(|((y, a), b)| *y = (*a + *b) * factor);
    }
}

/// a *= factor
#[inline(always)]
pub fn scale<R: Scalar>(a: &mut [R], factor: R) {
    a.iter_mut().for_each(|a| *a *= factor);
}

/// a += weight (b − a)
#[inline(always)]
pub fn lerp<R: Scalar>(a: &mut [R], b: &[R], weight: R) {
    a.iter_mut().zip(b).for_each(|(a, b)| *a += weight * (*b - *a));
}

/// a ← 0 where `zero` is true, by selection: NaN and −0 become 0 too.
#[inline(always)]
pub fn zero_where<R: Scalar>(a: &mut [R], zero: &[bool]) {
    a.iter_mut().zip(zero).for_each(|(a, &zero)| *a = if zero { R::ZERO } else { *a });
}

/// Σ a², in f64 and in an order that no instruction set changes.
#[inline(always)]
pub fn sum_of_squares<R: Scalar>(a: &[R]) -> f64 {
    // 16 sums, two of the longest vectors of f64, whatever the machine has: the order of summation is in the code, not in
    // what a compiler makes of it. In f64, because squares of f32 overflow from 2e19 on, and a norm clips.
    let (chunks, rest) = a.as_chunks::<16>();
    let mut sums = [0f64; 16];
    for chunk in chunks {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            let x = x.to_f64();
            *sum += x * x;
        }
    }
    for (sum, x) in sums.iter_mut().zip(rest) {
        let x = x.to_f64();
        *sum += x * x;
    }
    sums.iter().sum()
}
