// One step after another of a stream, or of many side by side, timed alike by every peer that includes this.

/// Steps that are measured, of all streams together; a tenth as many come before.
const STEPS: usize = 20_000;
/// The fewest steps of each stream.
const FEWEST: usize = 40;

trait Stream {
    /// Moves each stream on by a step, `[streams, features]`, and returns the layer's outputs, `[streams, units]`.
    fn step(&mut self, x: &[f32]) -> &[f32];
}

/// Prints, as JSON, the nanoseconds of a step of one stream, and the outputs of the last one.
fn time(stream: &mut impl Stream, features: usize, streams: usize) {
    // Each step has another input than the step before. Fewer differ where they are large, to stay in the cache.
    let (len, period) = (streams * features, 256 / streams.min(64));
    let value = |t: usize, i: usize| ((t * 31 + i * 17) % 129) as f32 / 64.0 - 1.0;
    let inputs: Vec<f32> = (0..period * len).map(|k| value(k / len, k % len)).collect();
    let mut inputs = inputs.chunks_exact(len).cycle();
    let mut used = 0.0;
    let mut run = |steps: usize| {
        let start = std::time::Instant::now();
        for x in inputs.by_ref().take(steps) {
            used += std::hint::black_box(stream.step(std::hint::black_box(x)))[0];
        }
        1e9 * start.elapsed().as_secs_f64() / (steps * streams) as f64
    };
    let steps = (STEPS / streams).max(FEWEST);
    run(steps / 10);
    let ns = run(steps);
    let output = stream.step(inputs.next().expect("a cycle")).to_vec();
    assert!((used + output[0]).is_finite());
    println!("{{\"ns\": {ns}, \"output\": {output:?}}}");
}
