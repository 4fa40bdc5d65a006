//! Kernels against plain references that share no loop with them, at odd sizes.

use ndarray::Array1;
use ndarray_rand::RandomExt;
use ndarray_rand::rand_distr::Uniform;

use super::*;
use crate::{SimdLevel, rng};

/// Reproducible values from −1 to 1, none special.
pub(crate) fn values<R: Kernels>(n: usize, salt: u64) -> Vec<R> {
    let uniform = Uniform::new(-1.0, 1.0).expect("a range");
    Array1::random_using(n, uniform, &mut rng::rng(salt)).mapv(R::from_f64).to_vec()
}

fn close<R: Kernels>(found: &[R], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len());
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        let a = a.to_f64();
        assert!((a - b).abs() <= tolerance * b.abs().max(1.0), "{what}: element {i} is {a}, expected {b}");
    }
}

fn product_equals_reference<R: Kernels>(tolerance: f64) {
    // Whole blocks and lines, one row more, blocks whose last line is one, two or three vectors, and columns in several pieces.
    let sizes = [
        (1, 1, 0, 1),
        (3, 5, 2, 2),
        (12, 7, 3, 3),
        (35, 28, 35, 2),
        (140, 3, 1, 1),
        (35, 28, 5, 3),
        (50, 3, 2, 3),
        (20, 300, 900, 2),
    ];
    let more = [16, 17, 32, 48, 49, 80, 97, 150, 200].map(|rows| (rows, 3, 2, 2 + rows % 2));
    for (rows, k0, k1, quanta) in sizes.into_iter().chain(more) {
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
        R::product(&packed, [&x0, &x1, &[]], Start::Bias, &mut y, lanes);
        close(&y, &reference(&|r, _| b0[r].to_f64() + b1[r].to_f64()), tolerance, "bias");
        let mut y = y0.clone();
        R::product(&packed, [&x0, &x1, &[]], Start::Add, &mut y, lanes);
        close(&y, &reference(&|r, l| y0[r * lanes + l].to_f64()), tolerance, "add");

        // A single sample without pads: bit for bit the same as among others.
        let column = |x: &[R]| -> Vec<R> { x.iter().copied().step_by(lanes).collect() };
        for start in [Start::Bias, Start::Add] {
            let (mut y, mut one) = (y0.clone(), column(&y0));
            R::product(&packed, [&x0, &x1, &[]], start, &mut y, lanes);
            R::product(&packed, [&column(&x0), &column(&x1), &[]], start, &mut one, 1);
            assert_eq!(one, column(&y), "one sample, {rows} rows");
        }

        // The transpose: x = Wᵀ y.
        let mut packed = vec![R::ZERO; packed_len(k0, rows)];
        R::pack(&[Matrix::new(&w0, rows, k0).transposed()], &[], &mut packed);
        let mut x = values::<R>(k0 * lanes, 8);
        R::product(&packed, [&y0, &[], &[]], Start::Bias, &mut x, lanes);
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

fn outer_equals_reference<R: Kernels>(tolerance: f64) {
    for (t, rows, cols, quanta) in [
        (1, 1, 1, 1),
        (2, 5, 13, 1),
        (3, 67, 6, 2),
        (28, 12, 11, 3),
        (2, 300, 37, 5),
        (1, 3, 70, 40),
        (3, 1100, 18, 1),
    ] {
        let lanes = quanta * R::QUANTUM;
        let (dy, x) = (values::<R>(t * rows * lanes, 1), values::<R>(t * cols * lanes, 2));
        let (dw0, db0) = (values::<R>(rows * cols, 3), values::<R>(rows, 4));
        let (mut dw, mut db) = (dw0.clone(), db0.clone());
        R::outer(
            Band::new(&dy, rows),
            &mut [Columns::new([Band::new(&x, cols), Band::NONE], &mut dw)],
            lanes,
        );
        let mut again = db.clone();
        R::row_sums(Band::new(&dy, rows), [&mut db, &mut again], lanes);
        assert_eq!(db, again);
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
        outer_of_steps_apart(&dy, &x, [&dw0, &db0, &dw, &db], [rows, cols, lanes]);
        outer_in_parts(&dy, &x, [&dw0, &db0, &dw, &db], [rows, cols, lanes]);
    }
}

/// The same with a step before, one after, and an extra row in each, which must not be read.
fn outer_of_steps_apart<R: Kernels>(
    dy: &[R],
    x: &[R],
    [dw0, db0, dw, db]: [&[R]; 4],
    [rows, cols, lanes]: [usize; 3],
) {
    let t = x.len() / (cols * lanes);
    let spaced = |from: &[R], n: usize| {
        let mut to = vec![R::from_f64(f64::NAN); (t + 2) * (n + 1) * lanes];
        for (i, from) in from.chunks_exact(n * lanes).enumerate() {
            to[(i + 1) * (n + 1) * lanes..][..n * lanes].copy_from_slice(from);
        }
        to
    };
    let (dy, x) = (spaced(dy, rows), spaced(x, cols));
    let band = |data, n: usize| Band::new(data, n + 1).steps(1..t + 1, lanes).rows(0..n);
    let (mut found, mut sums) = (dw0.to_vec(), db0.to_vec());
    let columns = Columns::new([band(&x, cols), Band::NONE], &mut found);
    R::outer(band(&dy, rows), &mut [columns], lanes);
    R::row_sums(band(&dy, rows), [&mut sums, &mut []], lanes);
    assert_eq!((&found[..], &sums[..]), (dw, db), "steps apart");
}

/// Some of the rows; and the columns of two matrices, the second of which is the product with two parts of x. Each element
/// is the same chain as before.
fn outer_in_parts<R: Kernels>(
    dy: &[R],
    x: &[R],
    [dw0, db0, dw, db]: [&[R]; 4],
    [rows, cols, lanes]: [usize; 3],
) {
    let some_rows = rows / 3..rows;
    let [first, second, third] = [0..cols / 3, cols / 3..cols / 2, cols / 2..cols];
    let split = |dw: &[R]| -> [Vec<R>; 2] {
        [first.clone(), first.end..cols].map(|columns| {
            let rows = dw.chunks_exact(cols).skip(some_rows.start);
            rows.flat_map(|row| &row[columns.clone()]).copied().collect()
        })
    };
    let [mut left, mut right] = split(dw0);
    let mut sums = db0[some_rows.clone()].to_vec();
    let dy = Band::new(dy, rows).rows(some_rows.clone());
    let x = |rows: &std::ops::Range<usize>| Band::new(x, cols).rows(rows.clone());
    let mut columns =
        [Columns::new([x(&first), Band::NONE], &mut left), Columns::new([x(&second), x(&third)], &mut right)];
    R::outer(dy.clone(), &mut columns, lanes);
    R::row_sums(dy, [&mut [], &mut sums], lanes);
    assert_eq!([left, right], split(dw), "parts");
    assert_eq!(sums, db[some_rows], "a part's sums");
}

/// Each weight is one chain of fused multiply-adds, over steps, then lanes.
#[test]
fn weight_gradients_are_one_chain() {
    for (t, rows, cols, lanes) in [(3, 7, 5, 16), (9, 140, 63, 32), (2, 35, 70, 48), (1, 300, 18, 272)] {
        let (dy, x) = (values::<f32>(t * rows * lanes, 1), values::<f32>(t * cols * lanes, 2));
        let (mut found, mut expected) = (values::<f32>(rows * cols, 3), values::<f32>(rows * cols, 3));
        let columns = Columns::new([Band::new(&x, cols), Band::NONE], &mut found);
        f32::outer(Band::new(&dy, rows), &mut [columns], lanes);
        for (i, dw) in expected.iter_mut().enumerate() {
            let (r, c) = (i / cols, i % cols);
            for t in 0..t {
                let (dy, x) = (&dy[(t * rows + r) * lanes..][..lanes], &x[(t * cols + c) * lanes..][..lanes]);
                dy.iter().zip(x).for_each(|(dy, x)| *dw = dy.mul_add(*x, *dw));
            }
        }
        assert_eq!(found, expected, "{t} steps, [{rows}, {cols}], {lanes} lanes");
    }
}

#[test]
fn products_equal_a_plain_reference() {
    product_equals_reference::<f32>(2e-5);
    product_equals_reference::<f64>(1e-13);
}

/// However many columns there are.
#[test]
fn products_are_one_chain_at_any_depth() {
    for (rows, k, lanes) in [(50, 127, 16), (50, 129, 48), (13, 257, 16), (35, 600, 32)] {
        let (w, b, x) = (values::<f32>(rows * k, 1), values::<f32>(rows, 2), values::<f32>(k * lanes, 3));
        let mut packed = vec![0.0; packed_len(rows, k)];
        f32::pack(&[Matrix::new(&w, rows, k)], &[&b], &mut packed);
        let chain = |r: usize, l: usize| {
            let row = &w[r * k..][..k];
            row.iter().zip(x[l..].iter().step_by(lanes)).fold(b[r], |sum, (w, x)| w.mul_add(*x, sum))
        };
        let expected: Vec<f32> = (0..rows * lanes).map(|i| chain(i / lanes, i % lanes)).collect();
        for level in SimdLevel::available() {
            let (mut y, xs, start) = (vec![0.0; rows * lanes], &[&x[..], &[], &[]], Start::Bias);
            let product = Product { packed: &packed, xs, start, y: &mut y, lanes, part: 0..lanes };
            level.arch().expect("it is available").dispatch(product);
            assert!(y == expected, "{rows} × {k}, {lanes} lanes, {level:?}");
        }
    }
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

fn apply<R: Kernels>(curve: Curve, x: &[R]) -> Vec<R> {
    let mut y = vec![R::ZERO; x.len()];
    R::activate(curve, x, &mut y);
    y
}

fn worst_f32(curve: Curve, exact: fn(f64) -> f64, bits: impl Iterator<Item = u32>) -> (f64, f32) {
    let mut worst = (0.0, 0.0);
    let mut x = Vec::with_capacity(1 << 16);
    let mut check = |x: &mut Vec<f32>| {
        x.resize(x.len().next_multiple_of(16), 0.0);
        for (&x, y) in x.iter().zip(apply(curve, x)) {
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
    for (curve, exact) in [(Curve::Tanh, f64::tanh as fn(f64) -> f64), (Curve::Sigmoid, sigmoid)] {
        let (ulp, x) = worst_f32(curve, exact, (0..=u32::MAX).step_by(9973));
        assert!(ulp <= 4.0, "{curve:?}({x}) is {ulp} ulp off");
    }
}

#[test]
#[ignore = "all 4 billion f32: some minutes"]
fn activations_are_within_four_ulp_in_f32_exhaustively() {
    for (curve, exact) in [(Curve::Tanh, f64::tanh as fn(f64) -> f64), (Curve::Sigmoid, sigmoid)] {
        let (ulp, x) = worst_f32(curve, exact, 0..=u32::MAX);
        println!("{curve:?}: at most {ulp:.3} ulp, at {x}");
        assert!(ulp <= 4.0, "{curve:?}({x}) is {ulp} ulp off");
    }
}

#[test]
fn activations_are_exact_to_1e_15_in_f64_and_keep_their_limits() {
    let x: Vec<f64> =
        (-4000..4000).map(|i| i as f64 * 0.01).chain((0..8).map(|i| 10f64.powi(-i * 2))).collect();
    for (curve, exact) in [(Curve::Tanh, f64::tanh as fn(f64) -> f64), (Curve::Sigmoid, sigmoid)] {
        for (x, y) in x.iter().zip(apply(curve, &x)) {
            let exact = exact(*x);
            assert!((y - exact).abs() <= 8e-16 * exact.abs(), "{curve:?}({x}) = {y}, expected {exact}");
        }
    }
    let far: Vec<f32> = [-f32::INFINITY, -1e30, -0.0, 0.0, 1e30, f32::INFINITY].repeat(8);
    assert_eq!(apply(Curve::Tanh, &far)[..6], [-1.0, -1.0, 0.0, 0.0, 1.0, 1.0]);
    let y = apply(Curve::Sigmoid, &far);
    assert!(y[0] >= 0.0 && y[0] < 1e-37 && y[2] == 0.5 && y[5] == 1.0, "{:?}", &y[..6]);
    assert!(apply(Curve::Tanh, &[f32::NAN; 16])[3].is_nan(), "NaN must not become a number");
}

#[test]
fn streams_of_any_length() {
    for n in [0, 1, 7, 16, 35, 100] {
        let x = values::<f32>(n, 1);
        let mut padded = x.clone();
        padded.resize(n.next_multiple_of(16), 0.0);
        assert_eq!(apply(Curve::Tanh, &x), apply(Curve::Tanh, &padded)[..n]);
    }
}

#[test]
fn sums_of_squares_do_not_overflow_f32() {
    assert_eq!(f32::sum_of_squares(&[1e30; 37]) as f32, 37.0 * (1e30f32 as f64 * 1e30f32 as f64) as f32);
    assert_eq!(f64::sum_of_squares(&[3.0, 4.0]), 25.0);
}

fn aligned(n: usize, salt: u64) -> Aligned<f32> {
    let mut a = Aligned::zeros(n);
    a.copy_from_slice(&values(n, salt));
    a
}

/// The median seconds of a call, which other load on the machine affects little.
fn median_seconds(calls: usize, mut f: impl FnMut()) -> f64 {
    median_seconds_from(calls, &(), |()| f())
}

/// The same, of calls that each change a copy of `from`; copying does not count.
fn median_seconds_from<T: Clone>(calls: usize, from: &T, mut f: impl FnMut(&mut T)) -> f64 {
    let mut state = from.clone();
    let mut times: Vec<f64> = (0..calls)
        .map(|_| {
            state.clone_from(from);
            let start = std::time::Instant::now();
            f(&mut state);
            start.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[calls / 2]
}

#[test]
#[ignore = "prints the speed of each kernel, on one thread; run it on a quiet machine, with --nocapture"]
fn speed() {
    let [a, b] = [1, 2].map(|salt| aligned(19_540, salt));
    let mut sum = aligned(19_540, 3);
    let sums = median_seconds(401, || f32::scaled_sum(&mut sum, &a, &b, 0.5));
    let norm = median_seconds(401, || assert!(f32::sum_of_squares(&a) > 0.0));
    println!("the paper's parameters, µs: sum of two slots {:.1}, norm {:.1}", 1e6 * sums, 1e6 * norm);
    for (h, lanes) in [(35, 16), (35, 24), (35, 32), (35, 64), (64, 32), (128, 32), (256, 32), (512, 32)] {
        speed_of_a_layer(h, lanes);
    }
}

fn speed_of_a_layer(h: usize, lanes: usize) {
    let t = 28;
    let median_seconds = |f: &mut dyn FnMut()| median_seconds(200_000 / (h * lanes) + 11, f);
    let w = values::<f32>(4 * h * 2 * h, 1);
    let (w_ih, w_hh) = w.split_at(4 * h * h);
    let parts = [Matrix::new(w_ih, 4 * h, h), Matrix::new(w_hh, 4 * h, h)];
    let bias = values::<f32>(4 * h, 2);
    let [mut packed, mut back] = [packed_len(4 * h, 2 * h), packed_len(h, 4 * h)].map(Aligned::zeros);
    let pack = median_seconds(&mut || f32::pack(&parts, &[&bias, &bias], &mut packed));
    f32::pack(&[parts[1].transposed()], &[], &mut back);
    // Steps as far apart as a layer has them.
    let (n, n_step, gates_step) = (h * lanes, (h | 1) * lanes, ((4 * h) | 1) * lanes);
    let x = aligned(t * n_step, 3);
    let mut dh = aligned(t * n_step, 4);
    let mut gates = aligned(t * gates_step, 5);
    let [mut dw, mut du] = [(); 2].map(|()| vec![0.0; 4 * h * h]);
    let flop = (t * 2 * 4 * h * h * lanes) as f64;
    let forward = median_seconds(&mut || {
        for t in 0..t {
            let gates = &mut gates[t * gates_step..][..4 * n];
            let xs = [&x[t * n_step..][..n], &dh[t * n_step..][..n], &[]];
            f32::product(&packed, xs, Start::Bias, gates, lanes);
        }
    });
    let [pointwise, pointwise_back] = speed_of_a_cell(h, lanes, &mut gates, &dh);
    gates.copy_from_slice(&values::<f32>(t * gates_step, 5));
    let backward = median_seconds(&mut || {
        for t in 0..t {
            let gates = &gates[t * gates_step..][..4 * n];
            f32::product(&back, [gates, &[], &[]], Start::Bias, &mut dh[t * n_step..][..n], lanes);
        }
    });
    let (dy, x) = (Band::new(&gates, (4 * h) | 1).rows(0..4 * h), Band::new(&x, h | 1).rows(0..h));
    let outer = median_seconds(&mut || {
        let mut columns = [&mut dw, &mut du].map(|dw| Columns::new([x.clone(), Band::NONE], dw));
        f32::outer(dy.clone(), &mut columns, lanes);
    });
    println!(
        "H {h}, {lanes} lanes, GFLOP/s: forward {:.0}, back {:.0}, weight gradient {:.0}; µs: {:.0}, {:.0}, \
         {:.0}, pointwise {:.0} and {:.0}, pack {:.0}",
        2e-9 * flop / forward,
        1e-9 * flop / backward,
        2e-9 * flop / outer,
        1e6 * forward,
        1e6 * backward,
        1e6 * outer,
        1e6 * pointwise,
        1e6 * pointwise_back,
        1e6 * pack,
    );
}

/// Seconds of the pointwise part of all steps, forward and back.
fn speed_of_a_cell(h: usize, lanes: usize, gates: &mut [f32], dh: &[f32]) -> [f64; 2] {
    let (n, calls) = (h * lanes, 200_000 / (h * lanes) + 11);
    let mut states = [(); 4].map(|()| aligned(n, 6));
    let forward = median_seconds(calls, || {
        for gates in gates.chunks_exact_mut(((4 * h) | 1) * lanes) {
            let [c_prev, c, tanh_c, h] = &mut states;
            f32::lstm_forward(lstm::Forward { gates: &mut gates[..4 * n], c_prev, c, tanh_c, h });
        }
    });
    // From the same gates each time: gradients of gradients would soon be so small that some processors take a hundred times
    // as long for each.
    let from = (gates.to_vec(), states);
    let backward = median_seconds_from(calls, &from, |(gates, states)| {
        for (gates, dh) in gates.chunks_exact_mut(((4 * h) | 1) * lanes).zip(dh.chunks_exact((h | 1) * lanes))
        {
            let [c_prev, dc, tanh_c, _] = &mut *states;
            let (gates, dh) = (&mut gates[..4 * n], &dh[..n]);
            f32::lstm_backward(lstm::Backward { gates, c_prev, tanh_c, dh, dc });
        }
    });
    [forward, backward]
}

/// One step of an LSTM after another, each from the state that the one before left: what a stream costs at least.
#[test]
#[ignore = "prints the speed of the kernels for one sample; run it on a quiet machine, with --nocapture"]
fn speed_of_one_sample() {
    const STEPS: usize = 300;
    for h in [8, 16, 32, 64] {
        let w = values::<f32>(4 * h * 2 * h, 1);
        let (w_ih, w_hh) = w.split_at(4 * h * h);
        let parts = [Matrix::new(w_ih, 4 * h, h), Matrix::new(w_hh, 4 * h, h)];
        let mut packed = aligned(packed_len(4 * h, 2 * h), 2);
        f32::pack(&parts, &[&values(4 * h, 2)], &mut packed);
        let (x, mut gates) = (aligned(STEPS * h, 3), aligned(4 * h, 4));
        let [mut c_prev, mut c, mut tanh_c, mut h_prev] = [(); 4].map(|()| aligned(h, 5));
        let both = median_seconds(1001, || {
            for x in x.chunks_exact(h) {
                f32::product(&packed, [x, &h_prev, &[]], Start::Bias, &mut gates, 1);
                let (gates, c_prev) = (&mut gates, &mut c_prev);
                f32::lstm_forward(lstm::Forward {
                    gates,
                    c_prev,
                    c: &mut c,
                    tanh_c: &mut tanh_c,
                    h: &mut h_prev,
                });
                c_prev.copy_from_slice(&c);
            }
        });
        println!("H {h}, one sample, ns a step: {:.0}", 1e9 * both / STEPS as f64);
    }
}

/// A step of an LSTM as a stream takes it, with some of its blocks of 16 rows of a column pruned, beside the same with all of
/// them: in turn, each for some steps, the second time of two, from the weights that the first has left in the cache.
#[test]
#[ignore = "prints the speed of sparse steps; run it on one core of a quiet machine, with --nocapture"]
fn speed_of_sparse_steps() {
    const STEPS: usize = 32;
    for (h, share) in [32, 64, 128, 192, 256, 384, 512]
        .into_iter()
        .flat_map(|h| [0.7, 0.65, 0.5, 0.35, 0.25, 0.15, 0.1, 0.05].map(|share| (h, share)))
    {
        let pack = |w: &[f32]| {
            let parts = [0, 1].map(|part| Matrix::new(&w[part * 4 * h * h..][..4 * h * h], 4 * h, h));
            let mut packed = aligned(packed_len(4 * h, 2 * h), 2);
            f32::pack(&parts, &[&values(4 * h, 3)], &mut packed);
            packed
        };
        let mut w = values::<f32>(4 * h * 2 * h, 1);
        let full = pack(&w);
        let keep = values::<f64>(w.len() / 16, 2);
        w.iter_mut().enumerate().for_each(|(i, w)| {
            let kept = keep[i / (16 * h) * h + i % h] < 2.0 * share - 1.0;
            *w = if kept { *w / (h as f32).sqrt() } else { 0.0 };
        });
        let packed = pack(&w);
        let rows =
            one_step::Rows { rows: 0..4 * h, packed: 0..packed.len(), x: true, h: true, start: Start::Bias };
        let plan = |packed: &[f32]| {
            let rows = std::iter::once(rows.clone());
            one_step::Plan::new(rows, packed, [h, h], (one_step::Pointwise::Lstm, h))
        };
        // A plan made for weights of which none is 0 is dense, whatever it then reads.
        let plans = [plan(&full), plan(&packed)];
        let (x, mut gates, mut y) = (aligned(STEPS * h, 4), aligned(4 * h, 5), aligned(h, 5));
        let [mut state, mut c] = [(); 2].map(|()| aligned(h, 6));
        let rounds = (8_000_000 / (h * h)).clamp(31, 301);
        let mut times = [(); 2].map(|()| Vec::with_capacity(rounds));
        for _ in 0..rounds {
            for (plan, times) in plans.iter().zip(&mut times) {
                let mut seconds = 0.0;
                for _ in 0..2 {
                    let start = std::time::Instant::now();
                    for x in x.chunks_exact(h) {
                        let (h, c, gates) = (&mut state[..], &mut c[..], &mut gates[..]);
                        f32::one_step(plan, one_step::Step { packed: &packed, x, h, c, gates, y: &mut y });
                    }
                    seconds = start.elapsed().as_secs_f64();
                }
                times.push(seconds / STEPS as f64);
            }
        }
        let mut ratios: Vec<_> =
            times[0].iter().zip(&times[1]).map(|(dense, sparse)| dense / sparse).collect();
        let [dense, sparse, ratio] = [&mut times[0].clone(), &mut times[1], &mut ratios].map(|all| {
            all.sort_by(f64::total_cmp);
            all[rounds / 2]
        });
        let name = if plans[1].sparse() == 1 { "sparse" } else { "dense" };
        println!(
            "H = I = {h}, {:.0} %: {name}, ns {:.0} for {:.0}: x {ratio:.2}",
            100.0 * share,
            1e9 * sparse,
            1e9 * dense
        );
    }
}

/// A file may ask for more than can be counted, on targets of 32 bits more easily: then no number wraps to a small one.
#[test]
fn sizes_of_packs_do_not_wrap() {
    assert_eq!(packed_len(48, 10), 48 * 11);
    for (rows, k) in [(1, usize::MAX), (1, usize::MAX / 2), (usize::MAX / 2, 4)] {
        assert_eq!(packed_len(rows, k), usize::MAX, "{rows} rows of {k}");
    }
}
