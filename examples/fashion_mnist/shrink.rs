//! `--shrink`: the trained model with fewer units, beside one of the same size that was trained from scratch.

use std::fmt;
use std::hint::black_box;
use std::time::Instant;

use bptt::data::DatasetExt;
use bptt::{Model, Result};
use serde_json::{Value, json};

use super::phases::{Data, Images, Phases, Report};
use super::recipe::Phase;

/// Images that are timed one by one.
const TIMED: usize = 500;

/// A model of the comparison.
struct Row {
    name: &'static str,
    parameters: usize,
    bytes: usize,
    accuracy: f64,
    microseconds: f64,
}

/// All models of the comparison.
#[derive(Default)]
pub struct Sizes(Vec<Row>);

/// Cuts units until at most `share` of the weights is left, and trains what is left; then trains as small a model from scratch,
/// with as many multiply-adds as both trainings together: for more epochs, because the wide model's are longer. `model` becomes the
/// small one; `None` if the training was stopped.
pub fn shrink(
    phases: &Phases<'_>,
    model: &mut Model,
    images: Images<'_>,
    report: &mut Report<'_>,
    share: f64,
) -> Result<Option<Sizes>> {
    let (recipe, seed) = (phases.recipe, phases.args.seed);
    let (mut sizes, wide) = (Sizes::default(), model.parameter_count());
    sizes.add("wide", model, report.test())?;
    recipe.cut_units(model, images.train, share, seed)?;
    phases.ranks.say(format!("\nshrunk to {share} of the weights\n{model}\n"));
    report.add("shrink", None, model)?;
    if recipe.retrain_epochs > 0 {
        let Some(history) = phases.fit(Phase::Retrain, model, images)? else { return Ok(None) };
        report.add("shrink, retrain", Some(&history), model)?;
    }
    sizes.add("shrunk", model, report.test())?;
    let mut scratch = model.clone();
    scratch.reinitialise(seed);
    let epochs = recipe.epochs_from_scratch(wide, model);
    phases.ranks.say(format!("\nfrom scratch, {epochs} epochs"));
    let trainer = recipe.trainer(Phase::Train, seed).epochs(epochs);
    recipe.fit((phases.ranks.join)(trainer), &mut scratch, images.train, None)?;
    sizes.add("from scratch", &scratch, report.test())?;
    Ok(Some(sizes))
}

impl Sizes {
    fn add(&mut self, name: &'static str, model: &Model, test: Data<'_>) -> Result<()> {
        let accuracy = model.evaluate(test)?.accuracy().unwrap_or(0.0);
        let (parameters, bytes) = (model.parameter_count(), model.to_bytes()?.len());
        self.0.push(Row { name, parameters, bytes, accuracy, microseconds: microseconds(model, test)? });
        Ok(())
    }

    pub fn json(&self) -> Value {
        let row = |row: &Row| {
            json!({
                "name": row.name,
                "parameters": row.parameters,
                "bytes": row.bytes,
                "accuracy": row.accuracy,
                "microseconds": row.microseconds,
            })
        };
        self.0.iter().map(row).collect()
    }
}

/// Of one image alone: the median over some of them.
fn microseconds(model: &Model, test: Data<'_>) -> Result<f64> {
    let mut predictor = model.predictor()?;
    let mut times = Vec::new();
    for i in 0..TIMED.min(test.len()) {
        let image = test.subset(vec![i as u32])?;
        let start = Instant::now();
        black_box(predictor.predict(&image)?);
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2] * 1e6)
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\nmodel         parameters     bytes  test accuracy  one image, µs")?;
        for Row { name, parameters, bytes, accuracy, microseconds } in &self.0 {
            let accuracy = 100.0 * accuracy;
            write!(f, "\n{name:12}  {parameters:>10}  {bytes:>8}  {accuracy:>11.2} %  {microseconds:>13.1}")?;
        }
        Ok(())
    }
}
