//! What a loss must keep.

use std::ops::Range;

use super::{Conform, Conformance};
use crate::data::TargetShape;
use crate::loss::{Loss, Tally, Targets, Tile};
use crate::{Result, Scalar, Seq, SeqMut, Shape, rng};

pub(super) fn check(
    conform: &Conform,
    loss: &dyn Loss<f64>,
    output: Shape,
    targets: TargetShape,
    held: &mut Conformance,
) -> Result<()> {
    loss.check(output, targets)?;
    for batch in [1, 3, f64::QUANTUM + 1] {
        let report = conform.check.batch(batch).loss(loss, output, targets)?;
        held.gradients(&format!("{batch} samples"), &report, conform.tolerance)?;
    }
    let subject = LossSubject { loss, output, targets, seed: conform.seed };
    subject.overwrites(held)?;
    subject.pads(held)?;
    subject.padding(held)?;
    subject.tallies(held)?;
    subject.missing(held)?;
    subject.extremes(held)
}

/// More samples than lanes of a vector.
const SAMPLES: usize = f64::QUANTUM + 3;

/// A loss and the shapes that it is called with.
struct LossSubject<'a> {
    loss: &'a dyn Loss<f64>,
    output: Shape,
    targets: TargetShape,
    seed: u64,
}

/// A call: which samples, and what must not matter.
#[derive(Clone)]
struct LossCase<'a> {
    samples: Range<usize>,
    lens: Option<&'a [usize]>,
    /// The factor of the outputs.
    scale: f64,
    /// What pads and padding hold.
    pad: f64,
    /// What the gradient's buffer holds at first.
    stale: f64,
    /// Whether samples of even number have no target.
    missing: bool,
}

impl LossCase<'_> {
    fn new(samples: Range<usize>) -> Self {
        Self { samples, lens: None, scale: 1.0, pad: 0.0, stale: 0.0, missing: false }
    }
}

/// The result of a call, by lane, including pads.
struct LossOutcome {
    losses: Vec<f64>,
    weights: Vec<f64>,
    dy: Vec<Vec<f64>>,
}

impl LossSubject<'_> {
    fn draw(&self, what: u64, sample: usize, i: usize) -> f64 {
        let key = rng::key(&[self.seed, what, sample as u64, i as u64]);
        (key >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    /// A class that does not count, if there is one.
    fn uncounted(&self) -> Option<i64> {
        [-1, -100].into_iter().chain(0..self.output.f as i64).find(|&class| !self.loss.counts(class))
    }

    /// Label `i` of a sample, which has 0 to `most` of them; −1 beyond.
    fn label(&self, most: usize, sample: usize, i: usize) -> i64 {
        let counted: Vec<i64> = (0..self.output.f as i64).filter(|&class| self.loss.counts(class)).collect();
        let below =
            |what: u64, i: usize, n: usize| ((self.draw(what, sample, i) + 1.0) / 2.0 * n as f64) as usize;
        let count = below(3, 0, most + 1);
        if i < count { counted.get(below(2, i, counted.len())).copied().unwrap_or(-1) } else { -1 }
    }

    fn run(&self, case: &LossCase<'_>) -> LossOutcome {
        let Shape { t, f } = self.output;
        let n = case.samples.len();
        let lanes = n.next_multiple_of(f64::QUANTUM);
        let len = |lane: usize| case.lens.map_or(t, |lens| lens[lane]);
        let sample = |lane: usize| case.samples.start + lane;
        let gone = |lane: usize| case.missing && sample(lane).is_multiple_of(2);
        let tile = |rows: usize, value: &dyn Fn(usize, usize) -> f64| -> Vec<f64> {
            (0..rows * lanes).map(|i| value(i / lanes, i % lanes)).collect()
        };
        let y = tile(t * f, &|row, lane| match lane < n && row / f < len(lane) {
            true => case.scale * self.draw(1, sample(lane), row),
            false => case.pad,
        });
        let (mut classes, mut values, mut shape) = (Vec::new(), Vec::new(), self.output);
        match self.targets {
            TargetShape::None => {}
            TargetShape::Classes { t } => {
                let class = |row: usize, lane: usize| match gone(lane) {
                    true => self.uncounted().unwrap_or_default(),
                    false => {
                        (((self.draw(2, sample(lane), row) + 1.0) / 2.0 * f as f64) as i64).min(f as i64 - 1)
                    }
                };
                classes = (0..t * lanes).map(|i| class(i / lanes, i % lanes)).collect();
            }
            TargetShape::Labels { most } => {
                let label = |i: usize| self.label(most, sample(i % lanes), i / lanes);
                classes = (0..most * lanes).map(label).collect();
            }
            TargetShape::Values(own) => {
                shape = own;
                values = tile(own.size(), &|row, lane| match gone(lane) {
                    true => f64::NAN,
                    false => {
                        let value = (self.draw(2, sample(lane), row) + 1.0) / 2.0;
                        // The targets of a loss with a threshold are 0 and 1.
                        if self.loss.threshold().is_some() { value.round() } else { value }
                    }
                });
            }
        }
        let targets = match self.targets {
            TargetShape::Values(_) => Targets::Values(Seq::new(&values, shape, lanes)),
            TargetShape::Labels { .. } => Targets::Labels(&classes),
            _ => Targets::Classes(&classes),
        };
        let mut dy = vec![case.stale; y.len()];
        let mut tallies = vec![Tally::default(); lanes];
        let lens: Vec<u32> = (0..n).map(|lane| len(lane) as u32).collect();
        let dy_out = SeqMut::new(&mut dy, self.output, lanes);
        let mut call = Tile::new(Seq::new(&y, self.output, lanes), targets, n, dy_out, &mut tallies);
        call.lens = case.lens.map(|_| &*lens);
        let mut scratch = vec![case.stale; self.loss.scratch(self.output, self.targets)];
        call.scratch = &mut scratch;
        self.loss.tile(call);
        LossOutcome {
            losses: tallies.iter().map(|tally| tally.loss).collect(),
            weights: tallies.iter().map(|tally| tally.weight).collect(),
            dy: (0..lanes).map(|lane| dy[lane..].iter().step_by(lanes).copied().collect()).collect(),
        }
    }

    fn same(
        held: &mut Conformance,
        property: &'static str,
        place: &str,
        (found, expected): (&LossOutcome, &LossOutcome),
    ) -> Result<()> {
        let at = |name: &str| format!("{place}: {name}");
        held.same(property, &at("gradient"), (&found.dy.concat(), &expected.dy.concat()), 0.0)?;
        held.same(property, &at("losses"), (&found.losses, &expected.losses), 0.0)?;
        held.same(property, &at("weights"), (&found.weights, &expected.weights), 0.0)
    }

    fn overwrites(&self, held: &mut Conformance) -> Result<()> {
        let case = LossCase::new(0..SAMPLES);
        let (found, expected) = (self.run(&LossCase { stale: f64::NAN, ..case.clone() }), self.run(&case));
        Self::same(held, "gradient overwritten", "after NaN in its place", (&found, &expected))
    }

    fn pads(&self, held: &mut Conformance) -> Result<()> {
        let case = LossCase::new(0..SAMPLES);
        let (found, expected) = (self.run(&LossCase { pad: 300.0, ..case.clone() }), self.run(&case));
        Self::same(held, "pads", "with other values in them", (&found, &expected))?;
        held.zero("pads", "their gradient", &found.dy[SAMPLES..].concat())?;
        held.zero("pads", "their losses", &found.losses[SAMPLES..])?;
        held.zero("pads", "their weights", &found.weights[SAMPLES..])
    }

    /// Lengths of targets that each step has: where a sample has but one, there is nothing beyond it.
    fn padding(&self, held: &mut Conformance) -> Result<()> {
        let Shape { t, f } = self.output;
        if t == 1 {
            return Ok(());
        }
        let lens: Vec<usize> = (0..SAMPLES).map(|i| 1 + (i + 1) % t).collect();
        let case = LossCase { lens: Some(&lens), ..LossCase::new(0..SAMPLES) };
        let (found, expected) = (self.run(&LossCase { pad: 300.0, ..case.clone() }), self.run(&case));
        Self::same(held, "padding", "with other values in it", (&found, &expected))?;
        let beyond = found.dy.iter().zip(&lens).flat_map(|(dy, &len)| &dy[len * f..]);
        held.zero("padding", "its gradient", &beyond.copied().collect::<Vec<_>>())
    }

    fn missing(&self, held: &mut Conformance) -> Result<()> {
        match self.targets {
            // No labels are a target, too.
            TargetShape::None | TargetShape::Labels { .. } => return Ok(()),
            TargetShape::Classes { .. } if self.uncounted().is_none() => return Ok(()),
            TargetShape::Classes { .. } | TargetShape::Values(_) => {}
        }
        let case = LossCase::new(0..SAMPLES);
        let (found, full) = (self.run(&LossCase { missing: true, ..case.clone() }), self.run(&case));
        for lane in 0..SAMPLES {
            let own = [&[found.losses[lane], found.weights[lane]][..], &found.dy[lane]].concat();
            let place = format!("sample {lane}");
            if lane.is_multiple_of(2) {
                held.zero("missing targets", &place, &own)?;
            } else {
                let expected = [&[full.losses[lane], full.weights[lane]][..], &full.dy[lane]].concat();
                held.same("missing targets", &place, (&own, &expected), 0.0)?;
            }
        }
        Ok(())
    }

    fn tallies(&self, held: &mut Conformance) -> Result<()> {
        let whole = self.run(&LossCase::new(0..SAMPLES));
        for lane in 0..SAMPLES {
            let own = self.run(&LossCase::new(lane..lane + 1));
            let place = format!("sample {lane} by itself");
            held.same(
                "tallies",
                &place,
                (&[own.losses[0], own.weights[0]], &[whole.losses[lane], whole.weights[lane]]),
                0.0,
            )?;
            held.same("tallies", &format!("{place}: gradient"), (&own.dy[0], &whole.dy[lane]), 0.0)?;
        }
        Ok(())
    }

    fn extremes(&self, held: &mut Conformance) -> Result<()> {
        let found = self.run(&LossCase { scale: 1000.0, ..LossCase::new(0..SAMPLES) });
        for (name, values) in [("loss", &found.losses), ("gradient", &found.dy.concat())] {
            if let Some(bad) = values.iter().find(|value| !value.is_finite()) {
                return Err(held.fault("extreme outputs", name, bad, "a finite number"));
            }
            held.count("extreme outputs", values.len());
        }
        Ok(())
    }
}
