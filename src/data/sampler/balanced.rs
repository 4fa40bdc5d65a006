//! Every class equally often.

use super::{Draw, Population, Sampler, check_draws};
use crate::data::batches::shuffle_slice;
use crate::{Description, Error, Result, rng};

/// Sets the keys to an epoch's draws apart from others.
const BALANCED: u64 = u64::from_be_bytes(*b"balanced");

/// Every class equally often, regardless of its share of the samples.
///
/// The draws of an epoch are divided equally among the classes, to within one; those of a class go through its samples in
/// random order, repeatedly, so that its samples are drawn equally often, to within one. All draws are then shuffled. Samples
/// without a class are left out.
///
/// # Examples
/// ```
/// use bptt::data::{Balanced, Population, Sampler};
///
/// let (mut sampler, mut draws) = (Balanced::new(), Vec::new());
/// sampler.start(&Population::new(6, 2).classes([0, 0, 0, 0, 0, 1]))?;
/// sampler.draw(1, &mut draws)?;
/// assert_eq!(draws.iter().filter(|draw| draw.index == 5).count(), 3);
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Balanced {
    draws: Option<usize>,
    seed: u64,
    /// The samples of each class that has any.
    classes: Vec<Vec<u32>>,
}

impl Balanced {
    /// A sampler with as many draws per epoch as there are samples.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many draws an epoch has.
    pub fn draws(mut self, draws: usize) -> Self {
        self.draws = Some(draws);
        self
    }
}

impl Sampler for Balanced {
    fn describe(&self) -> Description {
        Description::new("Balanced", self.draws)
    }

    fn needs_classes(&self) -> bool {
        true
    }

    fn start(&mut self, population: &Population) -> Result<()> {
        check_draws(self.draws)?;
        let classes = population.classes.as_deref().unwrap_or(&[]);
        let mut by_class = std::collections::BTreeMap::<i64, Vec<u32>>::new();
        for (i, &class) in (0..).zip(classes).filter(|(_, class)| **class >= 0) {
            by_class.entry(class).or_default().push(i);
        }
        if by_class.is_empty() {
            return Err(Error::mismatch("balanced sampler", "no sample that has a class", "at least one"));
        }
        (self.classes, self.seed) = (by_class.into_values().collect(), population.seed);
        Ok(())
    }

    fn draw(&mut self, epoch: usize, draws: &mut Vec<Draw>) -> Result<()> {
        let (all, classes) = (self.draws().unwrap_or(0), self.classes.len());
        let mut order = Vec::with_capacity(all);
        for (c, samples) in (0..).zip(&self.classes) {
            let mut left = (c + 1) * all / classes - c * all / classes;
            let mut round = 0;
            while left > 0 {
                let mut samples = samples.clone();
                shuffle_slice(&mut samples, rng::key(&[self.seed, epoch as u64, BALANCED, c as u64, round]));
                samples.truncate(left);
                left -= samples.len();
                order.append(&mut samples);
                round += 1;
            }
        }
        shuffle_slice(&mut order, rng::key(&[self.seed, epoch as u64, BALANCED]));
        draws.extend(order.into_iter().map(Draw::new));
        Ok(())
    }

    fn draws(&self) -> Option<usize> {
        Some(self.draws.unwrap_or_else(|| self.classes.iter().map(Vec::len).sum()))
    }
}
