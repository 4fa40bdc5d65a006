// One step of a stream after another, timed alike by every peer that includes this.

/// Steps before the measurement.
const WARM_UP: usize = 2_000;
/// Steps that are measured.
const STEPS: usize = 20_000;
/// Inputs before they repeat: each step has another one than the step before.
const PERIOD: usize = 256;

trait Stream {
    /// Moves on by a step and returns the layer's output, `[units]`.
    fn step(&mut self, x: &[f32]) -> &[f32];
}

/// Prints, as JSON, the nanoseconds of a step and the output of the last one.
fn time(stream: &mut impl Stream, features: usize) {
    // The same numbers as in stream.py: multiples of 1 / 64, which f32 has exactly.
    let value = |t: usize, i: usize| ((t * 31 + i * 17) % 129) as f32 / 64.0 - 1.0;
    let inputs: Vec<f32> = (0..PERIOD * features).map(|k| value(k / features, k % features)).collect();
    let mut inputs = inputs.chunks_exact(features).cycle();
    let mut used = 0.0;
    let mut run = |steps: usize| {
        let start = std::time::Instant::now();
        for x in inputs.by_ref().take(steps) {
            used += std::hint::black_box(stream.step(std::hint::black_box(x)))[0];
        }
        1e9 * start.elapsed().as_secs_f64() / steps as f64
    };
    run(WARM_UP);
    let ns = run(STEPS - 1);
    let output = stream.step(inputs.next().expect("a cycle")).to_vec();
    assert!((used + output[0]).is_finite());
    println!("{{\"ns\": {ns}, \"output\": {output:?}}}");
}
