//! A custom sampler: it draws what it says, and a run with it resumes to the bit, wherever it was interrupted.

use std::fs;
use std::path::{Path, PathBuf};

use bptt::data::{Arrays, Batch, Draw, Population, Sampler, Shuffled};
use bptt::nn::{Linear, Lstm};
use bptt::optim::Adam;
use bptt::train::{Callback, History, Progress};
use bptt::{Model, Result, Shape, Trainer};
use bptt_downstream::{HardestHalf, LogCosh, waves};

fn draws(sampler: &mut impl Sampler, epoch: usize) -> Vec<Draw> {
    let mut draws = Vec::new();
    sampler.draw(epoch, &mut draws).unwrap();
    draws
}

/// Order and weights, by hand.
#[test]
fn the_hardest_come_first_and_weigh_most() -> Result<()> {
    let (mut sampler, mut shuffled) = (HardestHalf::new(3), Shuffled::new());
    let population = Population::new(7, 4).seed(5);
    sampler.start(&population)?;
    shuffled.start(&population)?;
    let first = draws(&mut sampler, 1);
    assert_eq!(first, draws(&mut shuffled, 1));
    // Sample 6 has no target; 1 and 4 are equally hard.
    let losses = [0.5, 2.0, 0.1, 3.0, 2.0, 1.0, 9.0];
    for (i, part) in first.chunks(4).enumerate() {
        let seen: Vec<_> =
            part.iter().map(|draw| (draw.index != 6).then_some(losses[draw.index as usize])).collect();
        sampler.observe(Batch::new(part, 1, 4 * i), &seen);
    }
    // The mean loss of the four hardest is 2.
    let expected = [(3, 1.5), (1, 1.0), (4, 1.0), (5, 0.5)].map(|(i, weight)| Draw::new(i).weight(weight));
    assert_eq!(draws(&mut sampler, 2), expected);
    // What is learnt gives way to others.
    sampler.observe(Batch::new(&Draw::all([3, 1]), 2, 0), &[Some(0.0), Some(0.25)]);
    assert_eq!(draws(&mut sampler, 3).iter().map(|draw| draw.index).collect::<Vec<_>>(), [4, 5, 0, 1]);
    assert_eq!(draws(&mut sampler, 4), draws(&mut shuffled, 4));
    sampler.observe(Batch::new(&first, 4, 0), &[Some(0.0); 7]);
    assert_eq!(draws(&mut sampler, 5), Draw::all([0, 1, 2, 3]));
    Ok(())
}

/// Keeps every state of the run's file.
struct Copies {
    file: PathBuf,
    folder: PathBuf,
}

impl Callback<f32> for Copies {
    fn on_step(&mut self, at: &Progress) {
        // Before the first write there is none.
        if self.file.exists() {
            fs::copy(&self.file, self.folder.join(format!("{}-{:02}", at.epoch, at.step))).unwrap();
        }
    }
}

fn data(n: usize) -> Arrays {
    let (x, y) = waves(n);
    Arrays::vectors(x, y).unwrap()
}

fn model() -> Model {
    let lstm = Lstm::new(5).last();
    Model::builder(Shape::new(20, 1)).layer("lstm", lstm).layer("linear", Linear::new(1)).build(1).unwrap()
}

fn trainer() -> Trainer {
    Trainer::new(LogCosh, Adam::new(0.02)).epochs(4).batch_size(12)
}

/// A whole run with a file: the model as bytes, and losses and rates as text.
fn run(trainer: Trainer, file: &Path) -> Result<(Vec<u8>, String)> {
    let mut model = model();
    let history = trainer.run_file(file).run_file_every(1).resume(true).fit(&mut model, &data(90), None)?;
    let epochs = |history: History| history.epochs.into_iter().map(|epoch| (epoch.lr, epoch.train));
    Ok((model.to_bytes()?, format!("{:?}", epochs(history).collect::<Vec<_>>())))
}

#[test]
fn runs_resume_to_the_bit() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let (file, copies) = (folder.path().join("run"), folder.path().join("copies"));
    fs::create_dir(&copies).unwrap();
    let copy = Copies { file: file.clone(), folder: copies.clone() };
    let half = || trainer().sampler(HardestHalf::new(3));
    let whole = run(half().callback(copy), &file)?;
    assert_ne!(whole.0, run(trainer(), &folder.path().join("shuffled"))?.0);

    // Epochs 1 and 4 have 8 batches, the last of 6 samples; epochs 2 and 3 have 4, the last of 9.
    let copies: Vec<_> = fs::read_dir(copies).unwrap().map(|copy| copy.unwrap().path()).collect();
    assert_eq!(copies.len(), 8 + 4 + 4 + 8 - 1);
    for copy in &copies {
        assert!(run(half(), copy)? == whole, "resumed from {}", copy.display());
    }
    Ok(())
}

#[test]
fn what_is_refused() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run");
    run(trainer().epochs(1).sampler(HardestHalf::new(3)), &file)?;
    let error = run(trainer().sampler(HardestHalf::new(2)), &file).unwrap_err().to_string();
    assert!(error.contains("`sampler`"), "{error}");

    let mut sampler = HardestHalf::new(2);
    sampler.start(&Population::new(3, 1))?;
    for (state, fault) in [("[0.5, null]", "found 2 losses, expected 3"), ("[1, 2, \"3\"]", "invalid type")] {
        let error = sampler.load_state(serde_json::from_str(state).unwrap()).unwrap_err().to_string();
        assert!(error.contains(fault), "{error}");
    }
    let error = HardestHalf::new(0).start(&Population::new(3, 1)).unwrap_err().to_string();
    assert_eq!(error, "`every`: found 0, expected at least 1");
    Ok(())
}
