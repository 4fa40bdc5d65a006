//! What the axes of a value hold.
//!
//! Exporters split, merge and move axes at will; a layer here passes steps of features on. So an axis is a list of atoms, and an
//! atom of features knows which of a step's features it runs over.

use std::fmt::Write;

/// What an axis, or a factor of it, runs over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Atom {
    /// The samples; how many, if the file says it.
    Batch(Option<usize>),
    /// The steps.
    Time(usize),
    /// Features: index k of this atom is feature k · `stride` of a step.
    Feature { size: usize, stride: usize },
}

/// The atoms of an axis, the outermost first; none if its size is 1.
pub(super) type Axis = Vec<Atom>;

/// In a shape: the size of the batch, which the file leaves open.
pub(super) const BATCH: i64 = i64::MIN;

impl Atom {
    pub(super) const fn size(self) -> Option<usize> {
        match self {
            Self::Batch(size) => size,
            Self::Time(size) | Self::Feature { size, .. } => Some(size),
        }
    }
}

/// An axis of steps: without atoms, if there is only one.
pub(super) fn time(steps: usize) -> Axis {
    if steps == 1 { Vec::new() } else { vec![Atom::Time(steps)] }
}

/// An axis of `size` features, which are `stride` apart.
pub(super) fn features(size: usize, stride: usize) -> Axis {
    if size == 1 { Vec::new() } else { vec![Atom::Feature { size, stride }] }
}

/// The size of an axis, if it is known.
pub(super) fn size(axis: &[Atom]) -> Option<i64> {
    axis.iter().try_fold(1_i64, |product, atom| product.checked_mul(i64::try_from(atom.size()?).ok()?))
}

/// The features along an axis that holds nothing else: how many there are.
pub(super) fn width(axis: &[Atom]) -> Option<usize> {
    axis.iter().try_fold(1, |product, atom| match atom {
        Atom::Feature { size, .. } => Some(product * size),
        _ => None,
    })
}

/// Which feature each index along an axis of features is.
pub(super) fn order(axis: &[Atom]) -> Vec<usize> {
    axis.iter().fold(vec![0], |order, atom| match *atom {
        Atom::Feature { size, stride } => {
            order.iter().flat_map(|&first| (0..size).map(move |i| first + i * stride)).collect()
        }
        _ => order,
    })
}

/// An axis with the atoms that are one run of features joined.
pub(super) fn joined(atoms: impl IntoIterator<Item = Atom>) -> Axis {
    let mut axis = Axis::new();
    for atom in atoms {
        match (axis.last_mut(), atom) {
            (
                Some(Atom::Feature { size: outer, stride: step }),
                Atom::Feature { size: inner, stride: own },
            ) if *step == inner * own => {
                (*outer, *step) = (*outer * inner, own);
            }
            _ => axis.push(atom),
        }
    }
    axis
}

/// In words, for messages.
pub(super) fn show(axes: &[Axis]) -> String {
    let mut text = String::from("[");
    for (i, axis) in axes.iter().enumerate() {
        text.push_str(if i == 0 { "" } else { ", " });
        for (k, atom) in axis.iter().enumerate() {
            text.push_str(if k == 0 { "" } else { " · " });
            let _ = match atom {
                Atom::Batch(_) => write!(text, "batch"),
                Atom::Time(size) => write!(text, "{size} steps"),
                Atom::Feature { size, .. } => write!(text, "{size} features"),
            };
        }
        if axis.is_empty() {
            text.push('1');
        }
    }
    text + "]"
}

/// An index that may count from the end.
pub(super) fn index(axis: i64, rank: usize) -> Result<usize, String> {
    let from_start = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
    usize::try_from(from_start).ok().filter(|&i| i < rank).ok_or_else(|| format!("axis {axis} of {rank}"))
}

pub(super) fn transpose<T: Clone>(axes: &[T], perm: &[i64]) -> Result<Vec<T>, String> {
    if perm.is_empty() {
        return Ok(axes.iter().rev().cloned().collect());
    }
    let mut places = perm.iter().map(|&axis| index(axis, axes.len())).collect::<Result<Vec<_>, String>>()?;
    let moved = places.iter().map(|&i| axes[i].clone()).collect();
    places.sort_unstable();
    if places.into_iter().eq(0..axes.len()) { Ok(moved) } else { Err(format!("perm {perm:?}")) }
}

/// The axes without those of `which`, which have size 1.
pub(super) fn squeeze(axes: &[Axis], which: &[i64]) -> Result<Vec<Axis>, String> {
    let which = which.iter().map(|&axis| index(axis, axes.len())).collect::<Result<Vec<_>, _>>()?;
    if which.is_empty() {
        return Err("no axes".into());
    }
    if let Some(&i) = which.iter().find(|&&i| !axes[i].is_empty()) {
        return Err(format!("axis {i} of {} removed", show(axes)));
    }
    Ok((0..axes.len()).filter(|i| !which.contains(i)).map(|i| axes[i].clone()).collect())
}

pub(super) fn unsqueeze(axes: &[Axis], which: &[i64]) -> Result<Vec<Axis>, String> {
    let rank = axes.len() + which.len();
    let which = which.iter().map(|&axis| index(axis, rank)).collect::<Result<Vec<_>, _>>()?;
    let mut rest = axes.iter().cloned();
    let wider = (0..rank).map(|i| if which.contains(&i) { Some(Axis::new()) } else { rest.next() });
    let wider = wider.collect::<Option<_>>();
    wider.filter(|_| rest.next().is_none()).ok_or_else(|| format!("axes {which:?}"))
}

/// The axes after a reshape to `shape`, in which 0 is the size as it was, -1 what is left, and [`BATCH`] the batch.
pub(super) fn reshape(axes: &[Axis], shape: &[i64]) -> Result<Vec<Axis>, String> {
    let fault = || format!("{} made {shape:?}", show(axes)).replace(&BATCH.to_string(), "batch");
    let mut atoms: Vec<Atom> = joined(axes.iter().flatten().copied());
    let open = shape.iter().position(|&size| size == -1);
    let mut sizes = Vec::with_capacity(shape.len());
    for (i, &size) in shape.iter().enumerate() {
        let own = axes.get(i).map(Vec::as_slice);
        sizes.push(match (size, own) {
            (0, Some([Atom::Batch(_)])) => BATCH,
            (0, Some(own)) => self::size(own).ok_or_else(fault)?,
            (0, None) => return Err(fault()),
            (size, _) => size,
        });
    }
    let (before, after) = sizes.split_at(open.unwrap_or(sizes.len()));
    let mut made = Vec::with_capacity(shape.len());
    for (i, &size) in before.iter().enumerate() {
        let spare = shape.len() - i > atoms.len();
        made.push(take(&mut atoms, size, spare, false).ok_or_else(fault)?);
    }
    let mut ends = Vec::new();
    for &size in after.iter().skip(1).rev() {
        ends.push(take(&mut atoms, size, true, true).ok_or_else(fault)?);
    }
    if open.is_some() {
        made.push(joined(std::mem::take(&mut atoms)));
    }
    made.extend(ends.into_iter().rev());
    if atoms.is_empty() && made.len() == shape.len() { Ok(made) } else { Err(fault()) }
}

/// Takes the atoms of an axis of this size, from the front or the back; splits features where it must. `spare` says whether
/// there are more axes than atoms, so that a size of 1 can be none.
fn take(atoms: &mut Vec<Atom>, size: i64, spare: bool, back: bool) -> Option<Axis> {
    let at =
        |atoms: &[Atom]| if back { atoms.len().checked_sub(1) } else { (!atoms.is_empty()).then_some(0) };
    let next = |atoms: &[Atom]| at(atoms).map(|i| atoms[i]);
    let whole_batch = match next(atoms) {
        Some(Atom::Batch(None)) => size != 1,
        Some(Atom::Batch(own)) => own == usize::try_from(size).ok() && !(size == 1 && spare),
        _ => false,
    };
    if whole_batch || (size == BATCH && matches!(next(atoms), Some(Atom::Batch(_)))) {
        return at(atoms).map(|i| vec![atoms.remove(i)]);
    }
    let (mut left, mut axis) = (usize::try_from(size).ok().filter(|&size| size > 0)?, Vec::new());
    while left > 1 {
        let i = at(atoms)?;
        match (atoms[i], atoms[i].size()?) {
            (atom, own) if left.is_multiple_of(own) => {
                atoms.remove(i);
                axis.push(atom);
                left /= own;
            }
            (Atom::Feature { stride, .. }, own) if own.is_multiple_of(left) => {
                let rest = own / left;
                let outer = |size: usize, inner: usize| Atom::Feature { size, stride: stride * inner };
                let (taken, kept) = if back {
                    (outer(left, 1), outer(rest, left))
                } else {
                    (outer(left, rest), outer(rest, 1))
                };
                atoms[i] = kept;
                axis.push(taken);
                left = 1;
            }
            _ => return None,
        }
    }
    if back {
        axis.reverse();
    }
    Some(joined(axis))
}

/// The axes with `from` up to `to` made one.
pub(super) fn merge(axes: &[Axis], from: usize, to: usize) -> Vec<Axis> {
    let one = joined(axes[from..to].iter().flatten().copied());
    axes[..from].iter().cloned().chain([one]).chain(axes[to..].iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pixels() -> Vec<Axis> {
        // [batch, 4 channels, 5 steps, 3 columns], channels last in a step
        vec![vec![Atom::Batch(None)], features(4, 1), time(5), features(3, 4)]
    }

    #[test]
    fn features_know_where_they_come_from() {
        let moved = transpose(&pixels(), &[0, 2, 1, 3]).unwrap();
        let flat = reshape(&moved, &[BATCH, 5, -1]).unwrap();
        assert_eq!(flat.len(), 3);
        assert_eq!(order(&flat[2])[..4], [0, 4, 8, 1], "the columns of the first channel, then the second");
        let ours = transpose(&pixels(), &[0, 2, 3, 1]).unwrap();
        let flat = reshape(&ours, &[0, 0, 12]).unwrap();
        assert_eq!(flat[2], features(12, 1), "one run of all");
        assert_eq!(reshape(&flat, &[0, 0, 3, 4]).unwrap(), ours, "and split again");
    }

    #[test]
    fn shapes_that_do_not_fit_are_faults() {
        for shape in [&[0, 0, 13][..], &[0, 0, 5, 4, 1, 1, 2], &[0, 4, 5, 3, 0], &[-1, 7], &[0, 7, -1]] {
            let made = reshape(&pixels(), shape);
            assert!(made.is_err(), "{shape:?}: {made:?}");
        }
        assert!(transpose(&pixels(), &[0, 0, 1, 2]).is_err() && squeeze(&pixels(), &[1]).is_err());
        assert_eq!(show(&pixels()), "[batch, 4 features, 5 steps, 3 features]");
    }

    #[test]
    fn axes_of_size_1_come_and_go() {
        let axes = vec![Axis::new(), vec![Atom::Batch(Some(1))], features(6, 1)];
        let both = reshape(&axes, &[1, -1, 6]).unwrap();
        assert_eq!(both, axes);
        assert_eq!(reshape(&axes, &[1, 6]).unwrap(), axes[1..]);
        assert_eq!(unsqueeze(&axes[1..], &[0]).unwrap(), axes);
    }
}
