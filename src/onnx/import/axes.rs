//! What the axes of a value mean.

/// What an axis holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Batch,
    Time,
    Direction,
    Feature,
    /// Nothing: its size is 1.
    One,
}

/// An axis; its size, if the file says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Axis {
    pub(super) kind: Kind,
    pub(super) size: Option<usize>,
}

impl Axis {
    pub(super) const ONE: Self = Self { kind: Kind::One, size: Some(1) };

    pub(super) fn new(kind: Kind, size: impl Into<Option<usize>>) -> Self {
        Self { kind, size: size.into() }
    }

    /// Whether nothing is lost without it. A batch of one is still a batch.
    pub(super) fn is_idle(self) -> bool {
        self.size == Some(1) && matches!(self.kind, Kind::Direction | Kind::One)
    }

    fn fits(self, size: i64) -> bool {
        size <= 0 || self.size.is_none_or(|own| own as i64 == size)
    }
}

/// An index that may count from the end.
pub(super) fn index(axis: i64, rank: usize) -> Result<usize, String> {
    let from_start = if axis < 0 { axis + rank as i64 } else { axis };
    usize::try_from(from_start).ok().filter(|&i| i < rank).ok_or_else(|| format!("axis {axis} of {rank}"))
}

pub(super) fn transpose(axes: &[Axis], perm: &[i64]) -> Result<Vec<Axis>, String> {
    if perm.is_empty() {
        return Ok(axes.iter().rev().copied().collect());
    }
    let moved =
        perm.iter().map(|&axis| Ok(axes[index(axis, axes.len())?])).collect::<Result<Vec<_>, String>>()?;
    if moved.len() == axes.len() { Ok(moved) } else { Err(format!("perm {perm:?}")) }
}

/// The axes without those of `which`, which have size 1.
pub(super) fn squeeze(axes: &[Axis], which: &[i64]) -> Result<Vec<Axis>, String> {
    let which = which.iter().map(|&axis| index(axis, axes.len())).collect::<Result<Vec<_>, _>>()?;
    if which.is_empty() {
        return Err("no axes".into());
    }
    let stays = |i: &usize| !which.contains(i);
    if let Some(axis) =
        which.iter().map(|&i| axes[i]).find(|axis| axis.size != Some(1) || axis.kind == Kind::Batch)
    {
        return Err(format!("the axis {axis:?} removed"));
    }
    Ok((0..axes.len()).filter(stays).map(|i| axes[i]).collect())
}

pub(super) fn unsqueeze(axes: &[Axis], which: &[i64]) -> Result<Vec<Axis>, String> {
    let rank = axes.len() + which.len();
    let which = which.iter().map(|&axis| index(axis, rank)).collect::<Result<Vec<_>, _>>()?;
    let mut rest = axes.iter().copied();
    let wider = (0..rank).map(|i| if which.contains(&i) { Some(Axis::ONE) } else { rest.next() });
    wider.collect::<Option<_>>().ok_or_else(|| format!("axes {which:?}"))
}

/// The axes after a reshape that merges directions and features, or adds or removes axes of size 1.
pub(super) fn reshape(axes: &[Axis], shape: &[i64]) -> Result<Vec<Axis>, String> {
    let mut merged: Vec<Axis> = Vec::new();
    for &axis in axes.iter().filter(|axis| !axis.is_idle()) {
        match merged.last_mut() {
            Some(before) if before.kind == Kind::Direction && axis.kind == Kind::Feature => {
                let size = before.size.zip(axis.size).map(|(directions, units)| directions * units);
                *before = Axis::new(Kind::Feature, size);
            }
            _ => merged.push(axis),
        }
    }
    let one_step = |axis: &Axis| axis.kind == Kind::Time && axis.size == Some(1);
    let without: Vec<_> = merged.iter().copied().filter(|axis| !one_step(axis)).collect();
    let aligned = align(&merged, shape).or_else(|| align(&without, shape));
    aligned.ok_or_else(|| format!("{axes:?} made {shape:?}"))
}

fn align(mut rest: &[Axis], shape: &[i64]) -> Option<Vec<Axis>> {
    let mut aligned = Vec::new();
    for (i, &size) in shape.iter().enumerate() {
        let spare = shape.len() - i > rest.len();
        match rest.split_first() {
            Some((axis, tail)) if axis.fits(size) && !(size == 1 && spare && axis.size != Some(1)) => {
                aligned.push(*axis);
                rest = tail;
            }
            _ if size == 1 && spare => aligned.push(Axis::ONE),
            _ => return None,
        }
    }
    rest.is_empty().then_some(aligned)
}
