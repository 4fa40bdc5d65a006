//! A custom all-reduce: a run over several ranks is the run of one process, to the byte of the model's file.

use std::thread;

use bptt::data::Arrays;
use bptt::nn::{Linear, Lstm};
use bptt::optim::Adam;
use bptt::train::{Callback, Clip, EpochEnd, Flow};
use bptt::{Model, Result, Shape, Trainer};
use bptt_downstream::{HardestHalf, LogCosh, Rank, Softsign, team, waves};

fn data() -> Arrays {
    let (x, y) = waves(93);
    Arrays::vectors(x, y).unwrap()
}

fn model() -> Model {
    Model::builder(Shape::new(20, 1))
        .layer("lstm", Lstm::new(5).layers(2).dropout(0.2).last())
        .layer("softsign", Softsign)
        .layer("linear", Linear::new(1))
        .build(1)
        .unwrap()
}

/// Tiles of 2: batches of 40 are 20 tiles; the last has 13 samples, 7 tiles, so that the last ranks of four have none.
fn trainer() -> Trainer {
    Trainer::new(LogCosh, Adam::new(0.02)).epochs(3).batch_size(40).tile(2).clip(Clip::Norm(0.1))
}

fn learn(mut trainer: Trainer) -> Result<Vec<u8>> {
    let mut model = model();
    trainer.fit(&mut model, &data(), None)?;
    model.to_bytes()
}

/// What each rank of a team makes of `learn`.
fn together<T: Send>(size: usize, learn: impl Fn(usize, Rank<f32>) -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let learn = &learn;
        let ranks = team(size).into_iter().enumerate();
        let threads: Vec<_> = ranks.map(|(i, rank)| scope.spawn(move || learn(i, rank))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn ranks_give_the_bytes_of_one_process() -> Result<()> {
    let expected = learn(trainer())?;
    assert_ne!(expected, learn(trainer().clip(Clip::None))?, "some gradients are clipped");
    for size in [1, 2, 4, 8] {
        for (i, found) in together(size, |_, rank| learn(trainer().all_reduce(rank))).into_iter().enumerate()
        {
            assert!(found? == expected, "rank {i} of {size}");
        }
    }
    Ok(())
}

/// The losses that the sampler sees come from all ranks.
#[test]
fn a_custom_sampler_at_each_rank() -> Result<()> {
    let half = || trainer().sampler(HardestHalf::new(2));
    let expected = learn(half())?;
    for found in together(4, |_, rank| learn(half().all_reduce(rank))) {
        assert!(found? == expected);
    }
    Ok(())
}

/// A callback that stops at one rank ends the run of all ranks after the same epoch.
#[test]
fn a_stop_at_one_rank_is_one_at_all() -> Result<()> {
    struct Leaves(bool);
    impl Callback<f32> for Leaves {
        fn on_epoch(&mut self, _: EpochEnd<'_, f32>) -> Result<Flow> {
            Ok(if self.0 { Flow::Stop } else { Flow::Continue })
        }
    }
    let expected = learn(trainer().callback(Leaves(true)))?;
    for leaving in 0..4 {
        let found = together(4, |i, rank| learn(trainer().callback(Leaves(i == leaving)).all_reduce(rank)));
        for found in found {
            assert!(found? == expected);
        }
    }
    Ok(())
}

/// A rank that is gone ends the run at all others, which would otherwise wait for it forever.
#[test]
fn a_lost_rank_is_an_error_at_the_others() {
    for lost in 0..4 {
        let results = together(4, |i, rank| (i != lost).then(|| learn(trainer().all_reduce(rank))));
        for (i, result) in results.into_iter().enumerate().filter(|&(i, _)| i != lost) {
            let error = result.expect("a rank that trains").expect_err("a rank is gone").to_string();
            assert!(error.starts_with("`team`: found rank"), "rank {i}: {error}");
        }
    }
}
