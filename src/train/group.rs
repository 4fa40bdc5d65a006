//! Parameters by name: groups with their own settings, and frozen ones.

use std::ops::Range;

use crate::optim::Optimizer;
use crate::params::{Layout, Role, matches};
use crate::{Description, Error, Real, Result};

/// How a group of parameters differs from the others; see [`Trainer::group`](super::Trainer::group).
///
/// # Source
/// PyTorch's parameter groups.
/// # Examples
/// A tenth of the rate, and a separate optimizer without weight decay:
/// ```
/// use bptt::optim::Adam;
/// use bptt::train::Group;
///
/// let slow: Group = Group::new().lr_scale(0.1);
/// let plain: Group = Group::new().optimizer(Adam::new(1e-3));
/// # let _ = (slow, plain);
/// ```
#[derive(Debug)]
pub struct Group<R: Real = f32> {
    lr_scale: f64,
    optimizer: Option<Box<dyn Optimizer<R>>>,
}

impl<R: Real> Default for Group<R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R: Real> Group<R> {
    /// A group with the settings of the others.
    pub fn new() -> Self {
        Self { lr_scale: 1.0, optimizer: None }
    }

    /// A factor for the learning rate, applied after any schedule.
    pub fn lr_scale(mut self, factor: f64) -> Self {
        self.lr_scale = factor;
        self
    }

    /// A separate optimizer, of any kind; a schedule changes its rate in the same way.
    pub fn optimizer(mut self, optimizer: impl Optimizer<R> + 'static) -> Self {
        self.optimizer = Some(Box::new(optimizer));
        self
    }
}

impl<R: Real> Group<R> {
    /// The settings, by which a resumed run is compared with its file.
    pub(super) fn describe(&self) -> Description {
        let optimizer = self.optimizer.as_ref().map(|optimizer| optimizer.describe());
        Description::new("Group", (self.lr_scale, optimizer))
    }
}

/// The patterns of a trainer: groups and frozen parameters.
#[derive(Debug)]
pub(super) struct Groups<R: Real> {
    pub(super) groups: Vec<(String, Group<R>)>,
    pub(super) frozen: Vec<String>,
}

/// Consecutive parameters that one call of an optimizer updates.
pub(super) struct UpdateRange<'a, R: Real> {
    pub(super) range: Range<usize>,
    /// That of the tensor, if the optimizer takes one at a time; else empty.
    pub(super) shape: Vec<usize>,
    pub(super) optimizer: &'a dyn Optimizer<R>,
    /// Whether the optimizer belongs to a group.
    pub(super) own: bool,
    pub(super) lr_scale: f64,
    pub(super) lr: f64,
}

/// Which optimizer updates which parameters, and which parameters are frozen.
pub(super) struct UpdatePlan<'a, R: Real> {
    pub(super) updates: Vec<UpdateRange<'a, R>>,
    pub(super) frozen: Vec<Range<usize>>,
}

impl<R: Real> UpdatePlan<'_, R> {
    /// The plan for another layout of the same tensors, which may have other names and sizes.
    pub(super) fn follow(&mut self, old: &Layout, new: &Layout) {
        let move_to = |range: &mut Range<usize>, shape: &mut Vec<usize>| {
            let inside = old.tensors().iter().zip(new.tensors());
            let mut inside =
                inside.filter(|(tensor, _)| !tensor.is_empty() && range.contains(&tensor.offset));
            let Some((_, first)) = inside.next() else { return };
            let last = inside.next_back().map_or(first, |(_, last)| last);
            *range = first.offset..last.range().end;
            if !shape.is_empty() {
                *shape = first.shape();
            }
        };
        self.frozen.iter_mut().for_each(|range| move_to(range, &mut Vec::new()));
        self.updates.iter_mut().for_each(|update| move_to(&mut update.range, &mut update.shape));
    }
}

impl<R: Real> Groups<R> {
    /// Assigns each tensor to a group, and joins consecutive ranges, unless their optimizer takes one tensor at a time.
    pub(super) fn plan<'a>(
        &'a self,
        rest: &'a dyn Optimizer<R>,
        layout: &Layout,
    ) -> Result<UpdatePlan<'a, R>> {
        self.check(layout)?;
        let mut plan =
            UpdatePlan { updates: Vec::<UpdateRange<'a, R>>::new(), frozen: Vec::<Range<usize>>::new() };
        let mut last = None;
        for tensor in layout.tensors() {
            let frozen = self.frozen.iter().any(|pattern| matches(pattern, &tensor.name));
            let group = self.groups.iter().position(|(pattern, _)| matches(pattern, &tensor.name));
            if tensor.role == Role::Statistic && !frozen {
                last = None;
                continue;
            }
            let settings = group.map(|i| &self.groups[i].1);
            let own = settings.and_then(|group| group.optimizer.as_deref());
            let optimizer = own.unwrap_or(rest);
            let shape = optimizer.scratch(&tensor.shape()).map_or(Vec::new(), |_| tensor.shape());
            let this = Some((frozen, group));
            let same = std::mem::replace(&mut last, this) == this;
            let range = tensor.range();
            match (plan.frozen.last_mut(), plan.updates.last_mut()) {
                (Some(before), _) if frozen && same => before.end = range.end,
                (_, Some(before)) if !frozen && same && shape.is_empty() => before.range.end = range.end,
                _ if frozen => plan.frozen.push(range),
                _ => {
                    let lr_scale = settings.map_or(1.0, |group| group.lr_scale);
                    let (own, lr) = (own.is_some(), lr_scale * optimizer.lr());
                    plan.updates.push(UpdateRange { range, shape, optimizer, own, lr_scale, lr });
                }
            }
        }
        if plan.updates.is_empty() && !plan.frozen.is_empty() {
            return Err(Error::config("freeze", "found every parameter frozen, expected some to train"));
        }
        Ok(plan)
    }

    fn check(&self, layout: &Layout) -> Result<()> {
        let names = || layout.tensors().iter().map(|tensor| tensor.name.as_str());
        let groups = self.groups.iter().map(|(pattern, _)| ("group", pattern));
        for (field, pattern) in groups.chain(self.frozen.iter().map(|pattern| ("freeze", pattern))) {
            if !names().any(|name| matches(pattern, name)) {
                let names = names().collect::<Vec<_>>().join(", ");
                let fault = format!("found no parameter for `{pattern}`, expected one of {names}");
                return Err(Error::config(field, fault));
            }
        }
        for name in names() {
            let mut groups =
                self.groups.iter().map(|(pattern, _)| pattern).filter(|pattern| matches(pattern, name));
            if let (Some(first), Some(second)) = (groups.next(), groups.next()) {
                let fault = format!("found `{name}` in both `{first}` and `{second}`, expected it in one");
                return Err(Error::config("group", fault));
            }
        }
        for (_, group) in &self.groups {
            if !(0.0..f64::INFINITY).contains(&group.lr_scale) {
                let fault = format!("found {}, expected a number of at least 0", group.lr_scale);
                return Err(Error::config("lr_scale", fault));
            }
            group.optimizer.as_ref().map_or(Ok(()), |optimizer| optimizer.check())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Init;
    use crate::optim::{Adam, Muon, Sgd};

    fn layout() -> Layout {
        let mut layout = Layout::default();
        for (name, len) in [("a.weight", 6), ("a.bias", 2), ("b.weight", 4), ("b.bias", 1), ("c.bias", 1)] {
            layout.push(name.into(), vec![len.into()], Init::Constant(0.0)).unwrap();
        }
        layout
    }

    fn patterns(groups: Vec<(&str, Group<f64>)>, frozen: &[&str]) -> Groups<f64> {
        let groups = groups.into_iter().map(|(pattern, group)| (pattern.to_owned(), group)).collect();
        Groups { groups, frozen: frozen.iter().map(|&pattern| pattern.into()).collect() }
    }

    #[test]
    fn neighbours_are_joined() {
        let rest = Sgd::new(0.5);
        let plan = |groups, frozen: &[&str]| {
            let patterns = patterns(groups, frozen);
            let plan = patterns.plan(&rest, &layout()).unwrap();
            let updates = plan.updates.iter().map(|u| (u.range.clone(), u.lr, u.own)).collect::<Vec<_>>();
            (updates, plan.frozen)
        };
        assert_eq!(plan(vec![], &[]), (vec![(0..14, 0.5, false)], vec![]));
        let (updates, frozen) = plan(vec![], &["b.*"]);
        assert_eq!(updates, [(0..8, 0.5, false), (13..14, 0.5, false)]);
        assert_eq!((frozen.len(), &frozen[0]), (1, &(8..13)));
        let groups = vec![
            ("a.*", Group::new().lr_scale(0.1)),
            ("b.bias", Group::new().lr_scale(2.0).optimizer(Adam::new(0.25))),
        ];
        let (updates, frozen) = plan(groups, &["a.weight"]);
        assert_eq!(
            updates,
            [(6..8, 0.05, false), (8..12, 0.5, false), (12..13, 0.5, true), (13..14, 0.5, false)]
        );
        assert_eq!((frozen.len(), &frozen[0]), (1, &(0..6)));
    }

    #[test]
    fn tensors_are_not_joined_for_a_rule_that_takes_them_one_by_one() {
        let groups = vec![("a.*", Group::new().optimizer(Muon::new(0.1)))];
        let (patterns, rest) = (patterns(groups, &[]), Sgd::new(0.5));
        let mut plan = patterns.plan(&rest, &layout()).unwrap();
        let shapes = |plan: &UpdatePlan<'_, f64>| {
            plan.updates.iter().map(|u| (u.range.clone(), u.shape.clone())).collect::<Vec<_>>()
        };
        assert_eq!(shapes(&plan), [(0..6, vec![6]), (6..8, vec![2]), (8..14, vec![])]);
        let mut smaller = Layout::default();
        for (name, len) in [("a.weight", 3), ("a.bias", 1), ("b.weight", 2), ("b.bias", 1), ("c.bias", 1)] {
            smaller.push(name.into(), vec![len.into()], Init::Constant(0.0)).unwrap();
        }
        plan.follow(&layout(), &smaller);
        assert_eq!(shapes(&plan), [(0..3, vec![3]), (3..4, vec![1]), (4..8, vec![])]);
    }

    #[test]
    fn what_cannot_be_planned() {
        let fault = |groups, frozen: &[&str]| match patterns(groups, frozen).plan(&Sgd::new(0.5), &layout()) {
            Ok(_) => panic!("a plan"),
            Err(error) => error.to_string(),
        };
        let names = "expected one of a.weight, a.bias, b.weight, b.bias, c.bias";
        assert_eq!(fault(vec![], &["d.*"]), format!("`freeze`: found no parameter for `d.*`, {names}"));
        let none = fault(vec![("d", Group::new())], &[]);
        assert_eq!(none, format!("`group`: found no parameter for `d`, {names}"));
        let twice = fault(vec![("b.*", Group::new()), ("*.bias", Group::new())], &[]);
        assert_eq!(twice, "`group`: found `b.bias` in both `b.*` and `*.bias`, expected it in one");
        assert!(fault(vec![], &["*"]).starts_with("`freeze`: found every parameter frozen"));
        assert!(fault(vec![("*", Group::new().lr_scale(-1.0))], &[]).starts_with("`lr_scale`: found -1"));
        assert!(fault(vec![("*", Group::new().optimizer(Adam::new(-1.0)))], &[]).starts_with("`lr`"));
    }
}
