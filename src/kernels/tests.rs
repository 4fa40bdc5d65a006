//! Kernels against plain references that share no loop with them, at odd sizes.

use super::*;
use crate::Real;

/// Reproducible values in (−1, 1), none special.
pub(crate) fn values<R: Real>(n: usize, salt: u64) -> Vec<R> {
    (0..n as u64)
        .map(|i| {
            let z = (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ salt.wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 29)).wrapping_mul(0x94d0_49bb_1331_11eb);
            R::from_f64(((z >> 11) as f64 / (1u64 << 52) as f64) - 1.0)
        })
        .collect()
}

fn close<R: Real>(found: &[R], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len());
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        let a = a.to_f64();
        assert!((a - b).abs() <= tolerance * b.abs().max(1.0), "{what}: element {i} is {a}, expected {b}");
    }
}

fn product_equals_reference<R: Real>(tolerance: f64) {
    for (rows, k0, k1, quanta) in [(1, 1, 0, 1), (3, 5, 2, 2), (12, 7, 3, 3), (35, 28, 35, 2), (140, 3, 1, 1)]
    {
        let lanes = quanta * R::QUANTUM;
        let (w0, w1) = (values::<R>(rows * k0, 1), values::<R>(rows * k1, 2));
        let (b0, b1) = (values::<R>(rows, 3), values::<R>(rows, 4));
        let (x0, x1) = (values::<R>(k0 * lanes, 5), values::<R>(k1 * lanes, 6));
        let y0 = values::<R>(rows * lanes, 7);
        let reference = |start: &dyn Fn(usize, usize) -> f64| {
            let mut y = vec![0.0; rows * lanes];
            for r in 0..rows {
                for l in 0..lanes {
                    let a: f64 = (0..k0).map(|k| w0[r * k0 + k].to_f64() * x0[k * lanes + l].to_f64()).sum();
                    let b: f64 = (0..k1).map(|k| w1[r * k1 + k].to_f64() * x1[k * lanes + l].to_f64()).sum();
                    y[r * lanes + l] = start(r, l) + a + b;
                }
            }
            y
        };
        let mut packed = vec![R::ZERO; packed_len(rows, k0 + k1)];
        let parts = [Matrix::new(&w0, rows, k0), Matrix::new(&w1, rows, k1)];
        R::pack(&parts, &[&b0, &b1], &mut packed);
        let mut y = y0.clone();
        R::product(&packed, [&x0, &x1], Start::Bias, &mut y, lanes);
        close(&y, &reference(&|r, _| b0[r].to_f64() + b1[r].to_f64()), tolerance, "bias");
        let mut y = y0.clone();
        R::product(&packed, [&x0, &x1], Start::Add, &mut y, lanes);
        close(&y, &reference(&|r, l| y0[r * lanes + l].to_f64()), tolerance, "add");

        // The transpose: x = Wᵀ y.
        let mut packed = vec![R::ZERO; packed_len(k0, rows)];
        R::pack(&[Matrix::transposed(&w0, rows, k0)], &[], &mut packed);
        let mut x = values::<R>(k0 * lanes, 8);
        R::product(&packed, [&y0, &[]], Start::Bias, &mut x, lanes);
        let mut expected = vec![0.0; k0 * lanes];
        for k in 0..k0 {
            for l in 0..lanes {
                expected[k * lanes + l] =
                    (0..rows).map(|r| w0[r * k0 + k].to_f64() * y0[r * lanes + l].to_f64()).sum();
            }
        }
        close(&x, &expected, tolerance, "transposed");
    }
}

fn outer_equals_reference<R: Real>(tolerance: f64) {
    for (t, rows, cols, quanta) in [(1, 1, 1, 1), (2, 5, 13, 1), (3, 67, 6, 2), (28, 12, 11, 3)] {
        let lanes = quanta * R::QUANTUM;
        let (dy, x) = (values::<R>(t * rows * lanes, 1), values::<R>(t * cols * lanes, 2));
        let (dw0, db0) = (values::<R>(rows * cols, 3), values::<R>(rows, 4));
        let (mut dw, mut db) = (dw0.clone(), db0.clone());
        R::outer(&dy, &x, &mut dw, cols, lanes);
        R::row_sums(&dy, &mut db, lanes);
        let at = |a: &[R], n: usize, t: usize, r: usize, l: usize| a[(t * n + r) * lanes + l].to_f64();
        let mut expected: Vec<f64> = dw0.iter().map(|x| x.to_f64()).collect();
        let mut sums: Vec<f64> = db0.iter().map(|x| x.to_f64()).collect();
        for step in 0..t {
            for l in 0..lanes {
                for r in 0..rows {
                    sums[r] += at(&dy, rows, step, r, l);
                    for c in 0..cols {
                        expected[r * cols + c] += at(&dy, rows, step, r, l) * at(&x, cols, step, c, l);
                    }
                }
            }
        }
        close(&dw, &expected, tolerance * (t * lanes) as f64, "outer");
        close(&db, &sums, tolerance * (t * lanes) as f64, "row sums");
    }
}

#[test]
fn products_equal_a_plain_reference() {
    product_equals_reference::<f32>(2e-5);
    product_equals_reference::<f64>(1e-13);
}

#[test]
fn outer_products_equal_a_plain_reference() {
    outer_equals_reference::<f32>(1e-6);
    outer_equals_reference::<f64>(1e-15);
}

/// Units in the last place between `y` and the f32 nearest to `exact`.
fn ulps(y: f32, exact: f64) -> f64 {
    let nearest = exact as f32;
    let ulp = (f32::from_bits(nearest.abs().to_bits() + 1) - nearest.abs()) as f64;
    (y as f64 - exact).abs() / ulp
}

fn apply<R: Real>(function: Function, x: &[R]) -> Vec<R> {
    let mut y = vec![R::ZERO; x.len()];
    R::activate(function, x, &mut y);
    y
}

fn worst_f32(function: Function, exact: fn(f64) -> f64, bits: impl Iterator<Item = u32>) -> (f64, f32) {
    let mut worst = (0.0, 0.0);
    let mut x = Vec::with_capacity(1 << 16);
    let mut check = |x: &mut Vec<f32>| {
        x.resize(x.len().next_multiple_of(16), 0.0);
        for (&x, y) in x.iter().zip(apply(function, x)) {
            let exact = exact(x as f64);
            let far = if exact.abs() < 1e-37 { (y as f64 - exact).abs() / 1e-38 } else { ulps(y, exact) };
            if far > worst.0 {
                worst = (far, x);
            }
        }
        x.clear();
    };
    for bits in bits {
        let value = f32::from_bits(bits);
        if value.is_finite() && value.abs() >= f32::MIN_POSITIVE {
            x.push(value);
        }
        if x.len() == 1 << 16 {
            check(&mut x);
        }
    }
    check(&mut x);
    worst
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

#[test]
fn activations_are_within_four_ulp_in_f32() {
    for (function, exact) in [(Function::Tanh, f64::tanh as fn(f64) -> f64), (Function::Sigmoid, sigmoid)] {
        let (ulp, x) = worst_f32(function, exact, (0..=u32::MAX).step_by(9973));
        assert!(ulp <= 4.0, "{function:?}({x}) is {ulp} ulp off");
    }
}

#[test]
#[ignore = "all 4 billion f32: some minutes"]
fn activations_are_within_four_ulp_in_f32_exhaustively() {
    for (function, exact) in [(Function::Tanh, f64::tanh as fn(f64) -> f64), (Function::Sigmoid, sigmoid)] {
        let (ulp, x) = worst_f32(function, exact, 0..=u32::MAX);
        println!("{function:?}: at most {ulp:.3} ulp, at {x}");
        assert!(ulp <= 4.0, "{function:?}({x}) is {ulp} ulp off");
    }
}

#[test]
fn activations_are_exact_to_1e_15_in_f64_and_keep_their_limits() {
    let x: Vec<f64> =
        (-4000..4000).map(|i| i as f64 * 0.01).chain((0..8).map(|i| 10f64.powi(-i * 2))).collect();
    for (function, exact) in [(Function::Tanh, f64::tanh as fn(f64) -> f64), (Function::Sigmoid, sigmoid)] {
        for (x, y) in x.iter().zip(apply(function, &x)) {
            let exact = exact(*x);
            assert!((y - exact).abs() <= 8e-16 * exact.abs(), "{function:?}({x}) = {y}, expected {exact}");
        }
    }
    let far: Vec<f32> = [-f32::INFINITY, -1e30, -0.0, 0.0, 1e30, f32::INFINITY].repeat(8);
    assert_eq!(apply(Function::Tanh, &far)[..6], [-1.0, -1.0, 0.0, 0.0, 1.0, 1.0]);
    let y = apply(Function::Sigmoid, &far);
    assert!(y[0] >= 0.0 && y[0] < 1e-37 && y[2] == 0.5 && y[5] == 1.0, "{:?}", &y[..6]);
    assert!(apply(Function::Tanh, &[f32::NAN; 16])[3].is_nan(), "NaN must not become a number");
}

#[test]
fn sums_of_squares_do_not_overflow_f32() {
    assert_eq!(f32::sum_of_squares(&[1e30; 37]) as f32, 37.0 * (1e30f32 as f64 * 1e30f32 as f64) as f32);
    assert_eq!(f64::sum_of_squares(&[3.0, 4.0]), 25.0);
}

#[test]
#[ignore = "prints GFLOP/s"]
fn speed() {
    use std::time::Instant;
    for lanes in [16usize, 32, 64] {
        let (h, i, t) = (35, 35, 28);
        let w = values::<f32>(4 * h * (h + i), 1);
        let parts = [Matrix::new(&w[..4 * h * i], 4 * h, i), Matrix::new(&w[4 * h * i..], 4 * h, h)];
        let bias = values::<f32>(4 * h, 2);
        let mut packed = vec![0.0; packed_len(4 * h, h + i)];
        let start = Instant::now();
        for _ in 0..1000 {
            f32::pack(&parts, &[&bias, &bias], &mut packed);
        }
        println!("pack {:.2} µs", start.elapsed().as_secs_f64() * 1e3);
        let x = values::<f32>(t * i * lanes, 3);
        let hs = values::<f32>(t * h * lanes, 4);
        let mut gates = vec![0f32; t * 4 * h * lanes];
        let mut c = vec![0f32; (t + 1) * h * lanes];
        let mut tc = vec![0f32; h * lanes];
        let mut hh = vec![0f32; h * lanes];
        let n = 2000;
        let flop = (n * t * 2 * 4 * h * (h + i) * lanes) as f64;
        let (mut a, mut b) = (0.0, 0.0);
        for _ in 0..n {
            for t in 0..t {
                let now = Instant::now();
                let x = &x[t * i * lanes..][..i * lanes];
                let hp = &hs[t * h * lanes..][..h * lanes];
                let gates = &mut gates[t * 4 * h * lanes..][..4 * h * lanes];
                f32::product(&packed, [x, hp], Start::Bias, gates, lanes);
                let mid = Instant::now();
                let (c_prev, c) = c[t * h * lanes..].split_at_mut(h * lanes);
                f32::lstm_forward(lstm::Forward {
                    gates,
                    c_prev,
                    c: &mut c[..h * lanes],
                    tanh_c: &mut tc,
                    h: &mut hh,
                });
                a += (mid - now).as_secs_f64();
                b += mid.elapsed().as_secs_f64();
            }
        }
        println!(
            "lanes {lanes}: product {:.1} GFLOP/s; pointwise {:.1} % of it",
            flop / a * 1e-9,
            b / a * 100.0
        );
        let mut wt = vec![0.0; packed_len(h, 4 * h)];
        f32::pack(&[Matrix::transposed(&w[..4 * h * h], 4 * h, h)], &[], &mut wt);
        let mut dh = vec![0f32; h * lanes];
        let now = Instant::now();
        for _ in 0..n {
            for t in 0..t {
                f32::product(
                    &wt,
                    [&gates[t * 4 * h * lanes..][..4 * h * lanes], &[]],
                    Start::Add,
                    &mut dh,
                    lanes,
                );
            }
        }
        println!("transposed {:.1} GFLOP/s", flop / 2.0 / now.elapsed().as_secs_f64() * 1e-9);
        let mut dw = vec![0.0; 4 * h * h];
        let now = Instant::now();
        for _ in 0..n {
            f32::outer(&gates, &hs, &mut dw, h, lanes);
        }
        println!("outer {:.1} GFLOP/s", flop / 2.0 / now.elapsed().as_secs_f64() * 1e-9);
    }
}
