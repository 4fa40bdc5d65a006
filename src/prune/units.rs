//! Pruning whole units.

use std::ops::Range;

use super::rule::check_share;
use super::{Mask, Rule, UnitScores};
use crate::params::{Axis, Layout, UnitGroup, UnitGroups, matches};
use crate::{Arena, Error, Real, Result};
use serde::{Deserialize, Serialize};

/// Prunes whole units: all of a unit's rows, columns and biases, so that [`Model::compact`](crate::Model::compact) can cut
/// it.
///
/// By default those with the smallest [magnitude](UnitScores::magnitude); [`by`](Self::by) takes other
/// [scores](UnitScores). A layer always keeps a unit, the model its outputs, and a normalisation what it reads: of a
/// [`LayerNormLstm`](crate::nn::LayerNormLstm) only what it reads of others can be cut.
///
/// # Source
/// Wen et al. 2018, "Learning intrinsic sparse structures within long short-term memory", for what belongs to a unit; Li et
/// al. 2017, "Pruning filters for efficient ConvNets", for cutting those with the smallest norm.
/// # Examples
/// ```
/// use bptt::prune::Units;
/// use bptt::{Model, Shape, nn::{Linear, Lstm}};
///
/// let mut model: Model = Model::builder(Shape::new(28, 28))
///     .layer("lstm", Lstm::new(32).layers(2).last())
///     .layer("linear", Linear::new(10))
///     .build(1)?;
/// model.prune(Units::share(0.25).only("lstm.l0"))?;
/// model.prune(Units::weights(0.5))?;
/// let small = model.compact()?;
/// assert!(small.parameter_count() <= model.parameter_count() / 2);
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Units {
    limit: UnitLimit,
    global: bool,
    patterns: Vec<String>,
    #[serde(skip)]
    scores: Option<UnitScores>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum UnitLimit {
    /// Units that are pruned.
    Share(f64),
    /// Weights between units that are left.
    Weights(f64),
}

impl Units {
    /// Prunes until this share of the units of each group is pruned, including what was pruned before.
    pub fn share(share: f64) -> Self {
        Self { limit: UnitLimit::Share(share), global: false, patterns: Vec::new(), scores: None }
    }

    /// Prunes until at most this share of all weights is left, of those by which units read others or the input: that is the
    /// share of the multiply-adds of a time step. Each group loses about the same share of its units.
    pub fn weights(share: f64) -> Self {
        Self { limit: UnitLimit::Weights(share), ..Self::share(share) }
    }

    /// Compares units of different groups with one another, so that some groups lose more than others. Scores of a group are
    /// divided by their norm ‖·‖₂ before.
    ///
    /// # Source
    /// Molchanov et al. 2017, "Pruning convolutional neural networks for resource efficient inference", for the norm.
    pub fn global(mut self) -> Self {
        self.global = true;
        self
    }

    /// Restricts the rule to groups whose names match `pattern`, in which `*` matches any run of characters: `lstm.l0`,
    /// `lstm.*`. A second call adds others.
    pub fn only(mut self, pattern: impl Into<String>) -> Self {
        self.patterns.push(pattern.into());
        self
    }

    /// Prunes the units with the lowest of these scores.
    pub fn by(mut self, scores: UnitScores) -> Self {
        self.scores = Some(scores);
        self
    }

    /// The same rule with another share.
    pub(crate) fn with_share(&self, share: f64) -> Self {
        Self { limit: UnitLimit::Share(share), ..self.clone() }
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::Config`] naming the setting.
    pub(crate) fn check(&self) -> Result<()> {
        let (UnitLimit::Share(share) | UnitLimit::Weights(share)) = self.limit;
        check_share(share)
    }

    /// The groups that may lose units.
    fn groups<'a>(&self, units: &'a UnitGroups) -> Result<Vec<&'a UnitGroup>> {
        let may = || units.groups().iter().filter(|group| !group.fixed);
        for pattern in &self.patterns {
            if !may().any(|group| matches(pattern, &group.name)) {
                let names: Vec<_> = may().map(|group| &*group.name).collect();
                let fault = format!("found no units for `{pattern}`, expected one of {}", names.join(", "));
                return Err(Error::config("only", fault));
            }
        }
        let chosen = |group: &&UnitGroup| {
            self.patterns.is_empty() || self.patterns.iter().any(|pattern| matches(pattern, &group.name))
        };
        let groups: Vec<_> = may().filter(chosen).collect();
        if groups.is_empty() {
            return Err(Error::config("units", "found none that can be cut, expected at least one"));
        }
        Ok(groups)
    }

    /// The scores, in the order of all units.
    fn scores<R: Real>(&self, params: &Arena<R>, units: &UnitGroups) -> Result<Vec<f64>> {
        let Some(scores) = &self.scores else {
            return Ok(UnitScores::magnitude(params).as_slice().to_vec());
        };
        if scores.units().groups() != units.groups() {
            let found = format!("those of {} units", scores.units().len());
            return Err(Error::mismatch("scores", found, format!("the model's own, of {}", units.len())));
        }
        Ok(scores.as_slice().to_vec())
    }
}

impl<R: Real> Rule<R> for Units {
    fn mark(&self, params: &Arena<R>, mask: &mut Mask) -> Result<()> {
        self.check()?;
        let layout = params.layout();
        let units = layout.units();
        let groups = self.groups(&units)?;
        let mut dead = dead(layout, &units, mask);
        let scores = self.scores(params, &units)?;
        match self.limit {
            UnitLimit::Share(share) => {
                let sets = if self.global { groups.len().max(1) } else { 1 };
                for groups in groups.chunks(sets) {
                    let total: usize = groups.iter().map(|group| group.units.len()).sum();
                    let most = (share * total as f64).round() as usize;
                    for unit in order(groups, &scores, &dead, self.global) {
                        if groups.iter().map(|group| count(&dead, &group.units)).sum::<usize>() < most {
                            kill(groups, unit, &mut dead);
                        }
                    }
                }
            }
            UnitLimit::Weights(share) => {
                let most = share * weights_between(layout, &units, &vec![false; units.len()]) as f64;
                for unit in order(&groups, &scores, &dead, self.global) {
                    if weights_between(layout, &units, &dead) as f64 > most {
                        kill(&groups, unit, &mut dead);
                    }
                }
            }
        }
        let pruned = mask.as_mut_slice();
        for tensor in layout.tensors() {
            units.visit(tensor, |i, _, unit| pruned[i] |= dead[unit]);
        }
        Ok(())
    }
}

/// For each unit, whether all of it is pruned.
fn dead(layout: &Layout, units: &UnitGroups, mask: &Mask) -> Vec<bool> {
    let mut dead = vec![true; units.len()];
    for tensor in layout.tensors() {
        units.visit(tensor, |i, _, unit| dead[unit] &= mask.as_slice()[i]);
    }
    dead
}

fn count(dead: &[bool], units: &Range<usize>) -> usize {
    dead[units.clone()].iter().filter(|&&dead| dead).count()
}

/// The living units of some groups, those that should die first in front: by their scores, divided by the norm of their
/// group's, or by their places among the units of their own group.
fn order(groups: &[&UnitGroup], scores: &[f64], dead: &[bool], global: bool) -> Vec<usize> {
    let mut keys = Vec::new();
    for group in groups {
        let mut own: Vec<usize> = group.units.clone().filter(|&unit| !dead[unit]).collect();
        own.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]).then(a.cmp(&b)));
        let norm = own.iter().map(|&unit| scores[unit] * scores[unit]).sum::<f64>().sqrt();
        let before = count(dead, &group.units);
        keys.extend(own.into_iter().enumerate().map(|(place, unit)| {
            let key = match global {
                true if norm > 0.0 => scores[unit] / norm,
                true => 0.0,
                false => (before + place + 1) as f64 / group.units.len() as f64,
            };
            (key, unit)
        }));
    }
    keys.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    keys.into_iter().map(|(_, unit)| unit).collect()
}

/// Kills a unit, unless it is the last one of its group.
fn kill(groups: &[&UnitGroup], unit: usize, dead: &mut [bool]) {
    let own = groups.iter().find(|group| group.units.contains(&unit));
    if own.is_some_and(|group| count(dead, &group.units) + 1 < group.units.len()) {
        dead[unit] = true;
    }
}

/// How many weights there are by which living units read living ones, or the input.
fn weights_between(layout: &Layout, units: &UnitGroups, dead: &[bool]) -> usize {
    let living = |axis: &Axis| {
        let lives = |place: &&Option<(usize, usize)>| place.is_none_or(|(unit, _)| !dead[unit]);
        units.on(axis).iter().filter(lives).count()
    };
    let reads = layout.tensors().iter().filter(|tensor| tensor.axes.len() > 1);
    let reads = reads.filter(|tensor| tensor.axes[0].runs().iter().any(|run| run.group.is_some()));
    reads.map(|tensor| tensor.axes.iter().map(living).product::<usize>()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Linear, Lstm};
    use crate::{Model, Shape};

    fn model() -> Model<f64> {
        let lstm = Lstm::new(4).layers(2).last();
        let mut model = Model::builder(Shape::new(3, 2))
            .layer("lstm", lstm)
            .layer("linear", Linear::new(2))
            .build(1)
            .unwrap();
        // The bias of the input gate of unit k of layer l is 10 k + l + 1; all else is 0.
        let mut params = model.params_mut();
        params.as_mut_slice().fill(0.0);
        for l in 0..2 {
            let mut bias = params.get_mut(&format!("lstm.bias_ih_l{l}")).unwrap();
            (0..4).for_each(|k| bias[[k]] = (10 * k + l + 1) as f64);
        }
        drop(params);
        model
    }

    fn after(rule: Units, before: &[Units]) -> Vec<usize> {
        let mut model = model();
        before.iter().for_each(|rule| drop(model.prune(rule).unwrap()));
        model.prune(&rule).unwrap();
        let layout = model.params().layout();
        let units = layout.units();
        let dead = dead(layout, &units, model.mask().unwrap_or(&Mask::new(layout.clone())));
        (0..units.len()).filter(|&unit| dead[unit]).collect()
    }

    #[test]
    fn the_smallest_of_each_group() {
        assert_eq!(after(Units::share(0.5), &[]), [0, 1, 4, 5]);
        assert_eq!(after(Units::share(0.5).only("lstm.l1"), &[]), [4, 5]);
        assert_eq!(after(Units::share(0.5), &[Units::share(0.25).only("lstm.l0")]), [0, 1, 4, 5]);
        // Of each, one unit is left; the output has all.
        assert_eq!(after(Units::share(1.0), &[]), [0, 1, 2, 4, 5, 6]);
        // [1, 11, 21, 31] / 39.0, [2, 12, 22, 32] / 40.9
        assert_eq!(after(Units::share(0.375).global(), &[]), [0, 1, 4]);
    }

    #[test]
    fn until_few_weights_are_left() {
        // Of 16 · (2 + 4 + 4 + 4) + 2 · 4 = 232 weights: 12 · 5 + 12 · 6 + 6 = 138 with three units of each.
        assert_eq!(after(Units::weights(138.0 / 232.0), &[]), [0, 4]);
        assert_eq!(after(Units::weights(137.0 / 232.0), &[]), [0, 1, 4]);
        assert!(after(Units::weights(1.0), &[]).is_empty());
    }

    #[test]
    fn by_other_scores() {
        let mut scores = UnitScores::zeros(model().params().layout());
        scores.get_mut("lstm.l0").unwrap().copy_from_slice(&[3.0, 2.0, 1.0, f64::NAN]);
        scores.get_mut("lstm.l1").unwrap().copy_from_slice(&[0.0, 0.0, 0.0, -1.0]);
        assert_eq!(after(Units::share(0.25).by(scores), &[]), [2, 7]);
    }

    #[test]
    fn invalid_settings() {
        let fault = |rule: Units| model().prune(rule).unwrap_err().to_string();
        assert!(fault(Units::share(1.5)).starts_with("`share`: found 1.5"));
        assert_eq!(
            fault(Units::share(0.5).only("linear")),
            "`only`: found no units for `linear`, expected one of lstm.l0, lstm.l1"
        );
        let other: Model = Model::builder(Shape::new(1, 2)).layer("a", Linear::new(3)).build(1).unwrap();
        let scores = UnitScores::magnitude(other.params());
        assert!(fault(Units::share(0.5).by(scores)).starts_with("scores: found those of 3 units"));
    }
}
