//! A service that listens to many sensors: for each reading it says at once how likely the sensor is about to fail.

use std::sync::Arc;

use bptt::ndarray::{Array2, Array3, Axis};
use bptt::nn::{Session, Streams};
use bptt::prelude::*;
use bptt::rng;

/// `n` sensors over 50 readings, and for each reading whether the sensor fails: from some reading on it drifts.
fn sensors(n: usize, seed: u64) -> (Array3<f32>, Array2<i64>) {
    let mut rng = rng::rng(seed);
    let (mut x, mut y) = (Array3::zeros((n, 50, 1)), Array2::zeros((n, 50)));
    for i in 0..n {
        let begins = rng::below(&mut rng, 80) as usize; // for some of them, never
        for t in 0..50_usize {
            let drift = 0.25 * t.saturating_sub(begins) as f32;
            x[[i, t, 0]] = 20.0 + drift + rng::normals(&mut rng)[0] as f32;
            y[[i, t]] = i64::from(t >= begins + 4);
        }
    }
    (x, y)
}

pub fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (x, y) = sensors(400, 1);
    let train = Arrays::step_classes(x, y, ["sound", "failing"])?;
    let mut model = Model::builder(train.shape())
        .normalize(train.mean_sd()?)
        .layer("lstm", Lstm::new(12)) // in one direction only: the future has not come
        .layer("linear", Linear::new(2))
        .classes(train.class_names())
        .build(1)?;
    let mut trainer = Trainer::new(CrossEntropy::default(), Adam::new(1e-2)).epochs(8).batch_size(32).seed(1);
    trainer.fit(&mut model, &train, None)?;
    let bytes = model.to_bytes()?;

    // The service, elsewhere and later: all that it needs is those bytes.
    let model: Arc<Model> = Arc::new(Model::from_bytes(&bytes)?);
    let (x, y) = sensors(200, 2);
    let expected = model.predict(&x)?; // [200, 50, 2], of whole sequences

    // A thread for each of two sensors. A push allocates nothing and waits for nobody.
    std::thread::scope(|scope| {
        for sensor in 0..2 {
            let (model, x, expected) = (Arc::clone(&model), &x, &expected);
            scope.spawn(move || {
                let mut stream = Session::new(model).expect("layers that work step by step");
                for t in 0..50 {
                    let logits = stream.push(&[x[[sensor, t, 0]]]);
                    assert_eq!(logits, [expected[[sensor, t, 0]], expected[[sensor, t, 1]]], "the same bits");
                }
            });
        }
    });

    // All sensors side by side, and the service stopped in between: what is kept of a stream is its state.
    let mut streams = Streams::new(Arc::clone(&model), 200)?;
    for t in 0..30 {
        streams.push(x.index_axis(Axis(1), t));
    }
    let states: Vec<Vec<f32>> = (0..200).map(|sensor| streams.state(sensor, 0)).collect();

    let mut streams = Streams::new(model, 200)?;
    states.iter().enumerate().for_each(|(sensor, state)| streams.set_state(sensor, 0, state));
    let mut right = 0;
    for t in 30..50 {
        let logits = streams.push(x.index_axis(Axis(1), t));
        for (sensor, logits) in logits.rows().into_iter().enumerate() {
            right += usize::from((logits[1] > logits[0]) == (y[[sensor, t]] == 1));
        }
    }
    let accuracy = right as f64 / (200.0 * 20.0);
    println!("{:.1} % of 4,000 readings judged rightly as they came", 100.0 * accuracy);
    assert!(accuracy > 0.85);
    Ok(())
}
