// The work that every peer does, included by each: sizes, and images and labels from the official files.

/// Sizes from the command line: `HIDDEN LAYERS BATCH SAMPLES FOLDER`.
struct Work {
    hidden: usize,
    layers: usize,
    batch: usize,
    samples: usize,
    /// `[samples, 28, 28]`, normalised.
    images: Vec<f32>,
    labels: Vec<u8>,
}

impl Work {
    fn from_args() -> Self {
        let args: Vec<String> = std::env::args().skip(1).collect();
        let number = |i: usize| args[i].parse().expect("a number");
        let [hidden, layers, batch, samples] = [0, 1, 2, 3].map(number);
        let read = |name: &str, header: usize, bytes: usize| {
            let file = std::fs::File::open(format!("{}/{name}", args[4])).expect("one of the four official files");
            let mut all = Vec::new();
            std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(file), &mut all).expect("gzip");
            all[header..header + bytes].to_vec()
        };
        let images = read("train-images-idx3-ubyte.gz", 16, samples * 784);
        let images = images.iter().map(|&pixel| (f32::from(pixel) / 255.0 - 0.286) / 0.353).collect();
        let labels = read("train-labels-idx1-ubyte.gz", 8, samples);
        Self { hidden, layers, batch, samples, images, labels }
    }

    /// Runs two epochs, each a call of `step(first, samples)` for every batch, and prints the seconds of the second.
    fn time(&self, mut step: impl FnMut(usize, usize)) {
        let mut seconds = 0.0;
        for _ in 0..2 {
            let start = std::time::Instant::now();
            for first in (0..self.samples).step_by(self.batch) {
                step(first, self.batch.min(self.samples - first));
            }
            seconds = start.elapsed().as_secs_f64();
        }
        println!("{seconds}");
    }
}
