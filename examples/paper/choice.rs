//! The patterns to train on: how they are chosen, once or anew in each epoch.

use bptt::data::{
    BetaSampling, ByLoss, Coverage, DatasetExt, HardestShare, Images, InfoBatch, RandomShare, RandomSubset,
};
use bptt::loss::CrossEntropy;
use bptt::train::{Dynamics, RecordDynamics};
use bptt::{Model, Trainer};
use serde::{Deserialize, Serialize};

use crate::recipe::{Phase, Recipe};
use crate::study::{Patterns, Run};

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    Random,
    /// By the loss under a model trained on all patterns for a quarter of the epochs; within each class.
    Hardest,
    Easiest,
    Middle,
    /// All degrees of difficulty but the hardest: CCS by EL2N with a cut by the area under the margin, of a training
    /// like the one before; within each class.
    Coverage {
        cut: f64,
    },
    /// DUAL's score of such a training, and its Beta distribution; within each class.
    Dual,
    /// Another share in each epoch, at random.
    Fresh,
    /// The hardest share in each epoch.
    HardestAnew,
    /// Fewer of those that are learned already, in each epoch; the share of these that is left out.
    InfoBatch {
        ratio: f64,
    },
}

impl Way {
    /// Whether patterns are chosen in each epoch rather than once.
    fn is_dynamic(self) -> bool {
        matches!(self, Self::Fresh | Self::HardestAnew | Self::InfoBatch { .. })
    }

    /// The trainer with the sampler of a way that chooses in each epoch.
    pub fn sample(self, share: f64, trainer: Trainer) -> Trainer {
        match self {
            Self::Fresh => trainer.sampler(RandomShare::new(share)),
            Self::HardestAnew => trainer.sampler(HardestShare::new(share)),
            Self::InfoBatch { ratio } => trainer.sampler(InfoBatch::new().ratio(ratio)),
            _ => trainer,
        }
    }

    /// About how many times all patterns so many epochs draw.
    pub fn drawn(self, share: f64, epochs: usize) -> f64 {
        let part = match self {
            // Measured: about four in five patterns have a loss below the mean.
            Self::InfoBatch { ratio } => 1.0 - 0.8 * ratio,
            Self::HardestAnew => share,
            _ => return share * epochs as f64,
        };
        // The first epoch draws all, and so do the last ones, by the samplers' default of δ.
        let whole = |epoch: &usize| *epoch == 0 || *epoch as f64 >= 0.875 * epochs as f64;
        let whole = (0..epochs).filter(whole).count();
        whole as f64 + (epochs - whole) as f64 * part
    }

    /// How many epochs draw about as many patterns as `epochs` of all of them.
    pub fn as_many_steps(self, share: f64, epochs: usize) -> usize {
        let off = |count: usize| (self.drawn(share, count) - epochs as f64).abs();
        let most = 2 * (epochs as f64 / share) as usize;
        (1..=most).min_by(|&a, &b| off(a).total_cmp(&off(b))).unwrap_or(epochs)
    }

    /// The epochs of the training by which patterns are chosen.
    pub fn scorer_epochs(self, recipe: &Recipe) -> usize {
        let quarter = recipe.epochs / 4;
        match self {
            Self::Hardest | Self::Easiest | Self::Middle => quarter.max(1),
            // A standard deviation takes two epochs.
            Self::Coverage { .. } | Self::Dual => quarter.max(2),
            Self::Random | Self::Fresh | Self::HardestAnew | Self::InfoBatch { .. } => 0,
        }
    }
}

impl Run {
    /// The patterns to train on, of these.
    pub(crate) fn choose(&self, images: &Images, from: Vec<u32>) -> bptt::Result<Vec<u32>> {
        let Patterns { share, way, .. } = self.patterns;
        if share == 1.0 || way.is_dynamic() {
            return Ok(from);
        }
        let all = images.subset(from.clone())?;
        let losses = || {
            let (scorer, _) = self.scored(images, &from)?;
            scorer.sample_losses(&all, &CrossEntropy::default())
        };
        let by_loss = |rule: ByLoss| {
            Ok::<_, bptt::Error>(all.select_by(&rule.stratified(), &losses()?)?.indices().to_vec())
        };
        let chosen = match way {
            Way::Hardest => by_loss(ByLoss::hardest(share))?,
            Way::Easiest => by_loss(ByLoss::easiest(share))?,
            Way::Middle => by_loss(ByLoss::band((1.0 - share) / 2.0, (1.0 + share) / 2.0))?,
            Way::Coverage { cut } => {
                let (_, dynamics) = self.scored(images, &from)?;
                let rule = Coverage::share(share).cut(cut, dynamics.aum()?).seed(self.seed).stratified();
                all.select_by(&rule, &dynamics.el2n()?)?.indices().to_vec()
            }
            Way::Dual => {
                let (_, dynamics) = self.scored(images, &from)?;
                let p = dynamics.mean_probability()?;
                let rule = BetaSampling::share(share, p).seed(self.seed).stratified();
                all.select_by(&rule, &dynamics.dual(3.min(dynamics.epochs()))?)?.indices().to_vec()
            }
            _ => all.select(&RandomSubset::share(share).seed(self.seed))?.indices().to_vec(),
        };
        Ok(chosen.into_iter().map(|i| from[i as usize]).collect())
    }

    /// A model trained on all of these patterns for a few epochs, and the dynamics of its training.
    fn scored(&self, images: &Images, from: &[u32]) -> bptt::Result<(Model, Dynamics)> {
        let all = images.subset(from.to_vec())?;
        let epochs = self.patterns.way.scorer_epochs(&self.recipe);
        let recipe = Recipe { epochs, ..self.recipe.clone() };
        let (mut scorer, recorder) = (recipe.model(&self.network, &all, self.seed)?, RecordDynamics::new());
        let trainer = recipe.trainer(Phase::Train, self.seed).callback(recorder.clone());
        recipe.fit(trainer, &mut scorer, &all, None)?;
        Ok((scorer, recorder.dynamics()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_epochs_of_fewer_patterns_are_as_many_steps() {
        for (way, share, epochs) in [
            (Way::Random, 1.0, 7),
            (Way::Fresh, 0.5, 14),
            (Way::Coverage { cut: 0.1 }, 0.2, 35),
            // Both draw all in the first epoch and in the last.
            (Way::HardestAnew, 0.5, 12),
            (Way::InfoBatch { ratio: 0.5 }, 0.5, 10),
        ] {
            assert_eq!(way.as_many_steps(share, 7), epochs, "{way:?}");
        }
        assert_eq!(Way::HardestAnew.drawn(0.5, 20), 3.0 + 17.0 * 0.5, "two at the end, of twenty");
    }
}
