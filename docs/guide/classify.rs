//! Which of three machines does a recording come from? Recordings are 8 to 40 steps long.

use std::f32::consts::{FRAC_PI_2, TAU};

use bptt::data::pad;
use bptt::ndarray::{Array2, Axis};
use bptt::prelude::*;
use bptt::rng;

const MACHINES: [&str; 3] = ["pump", "fan", "mill"];

/// `n` recordings, `[steps, 2]` each, and the number of the machine of each: vibrations whose pace is the machine's, of random
/// phase and strength, in noise.
fn recordings(n: usize, seed: u64) -> (Vec<Array2<f32>>, Vec<usize>) {
    let mut rng = rng::rng(seed);
    let mut uniform = |from: f32, to: f32| from + (to - from) * rng::unit(&mut rng) as f32;
    let recording = |i: usize| {
        let (steps, machine) = (uniform(8.0, 41.0) as usize, i % 3);
        let (phase, strength) = (uniform(0.0, TAU), uniform(0.5, 1.5));
        let pace = [0.5, 0.8, 1.2][machine] * uniform(0.95, 1.05);
        let sensors = Array2::from_shape_fn((steps, 2), |(t, sensor)| {
            strength * (phase + pace * t as f32 + FRAC_PI_2 * sensor as f32).sin() + uniform(-0.6, 0.6)
        });
        (sensors, machine)
    };
    (0..n).map(recording).unzip()
}

pub fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (sequences, machines) = recordings(900, 1);
    let (x, lengths) = pad(&sequences)?; // [900, 40, 2], and 900 lengths
    let data = Arrays::classes(x, &machines, MACHINES)?.lengths(lengths)?;
    let (train, valid) = data.hold_out_stratified(150, 1)?;

    let mut model = Model::builder(data.shape())
        .normalize(train.mean_sd_per_feature()?) // without the padding
        .layer("lstm", Lstm::new(24).bidirectional().last())
        .layer("linear", Linear::new(3))
        .classes(train.class_names())
        .build(1)?;
    let mut trainer = Trainer::new(CrossEntropy::default(), Adam::new(5e-3))
        .epochs(12)
        .batch_size(32)
        .seed(1)
        .callback(EarlyStopping::new(4));
    trainer.fit(&mut model, &train, Some(&valid))?;

    // Recordings of other lengths than those of the training, too.
    let (sequences, machines) = recordings(300, 2);
    let (x, lengths) = pad(&sequences)?;
    let test = model.evaluate(&Arrays::classes(x, &machines, MACHINES)?.lengths(lengths)?)?;
    let confusion = test.confusion().ok_or("the targets are classes")?;
    println!("{confusion}\n{}", confusion.report());
    assert!(confusion.accuracy() > 0.95);

    // One recording alone, of its own length, without padding.
    let one = sequences[0].clone().insert_axis(Axis(0));
    println!("the first recording is of the {}", MACHINES[model.predict_classes(&one)?[0]]);
    Ok(())
}
