//! From stages to layers: a bias becomes part of the layer before it, constants at the beginning the normalisation, and other
//! arithmetic with constants a batch normalisation.

use super::stage::{Link, Operation, Stage, StageKind, Tensors};
use crate::onnx_graph::TARGETS;

/// A model's layers, and what is subtracted from the input and what it is divided by.
#[derive(Debug, Default)]
pub(super) struct Links {
    pub(super) layers: Vec<Link>,
    pub(super) mean: Option<Vec<f64>>,
    pub(super) sd: Option<Vec<f64>>,
    /// The mean and sd of targets, which the end of the graph undoes.
    pub(super) targets: Option<[Vec<f64>; 2]>,
    /// Whether a softmax was the last operator.
    pub(super) softmax: bool,
}

/// The stages from that after `from` to `to`, both counted as in [`Stage::from`].
pub(super) fn path(stages: &[Stage], from: usize, to: usize) -> Vec<usize> {
    let mut path: Vec<usize> = std::iter::successors(to.checked_sub(1), |&i| stages[i].from.checked_sub(1))
        .take_while(|&i| i + 1 > from)
        .collect();
    path.reverse();
    path
}

impl Links {
    /// The model whose output is that of the last of `stages` up to `at`.
    ///
    /// # Errors
    /// What belongs to no layer.
    pub(super) fn new(stages: &[Stage], at: usize) -> Result<Self, String> {
        let mut path = path(stages, 0, at);
        let mut own = Self::default();
        if path.last().is_some_and(|&i| stages[i].kind == StageKind::Softmax) {
            own.softmax = true;
            path.pop();
        }
        if let [.., sd, mean] = path[..]
            && let Some(targets) = targets(&stages[sd], &stages[mean])
        {
            own.targets = Some(targets);
            path.truncate(path.len() - 2);
        }
        let mut rest = &path[..];
        while let [first, tail @ ..] = rest {
            let values = || stages[*first].tensors.first().map(|(_, values)| values.clone());
            match stages[*first].kind {
                StageKind::Arithmetic(Operation::Sub) if own.mean.is_none() && own.sd.is_none() => {
                    own.mean = values();
                }
                StageKind::Arithmetic(Operation::Div) if own.sd.is_none() => own.sd = values(),
                _ => break,
            }
            rest = tail;
        }
        own.layers = layers(stages, rest)?;
        Ok(own)
    }
}

/// The mean and sd of targets, if these stages undo their normalisation.
fn targets(scale: &Stage, shift: &Stage) -> Option<[Vec<f64>; 2]> {
    let values = |stage: &Stage, operation: Operation| match &stage.tensors[..] {
        [(name, values)] if name == TARGETS && stage.kind == StageKind::Arithmetic(operation) => {
            Some(values.clone())
        }
        _ => None,
    };
    Some([values(shift, Operation::Add)?, values(scale, Operation::Mul)?])
}

/// The layers of a path.
fn layers(stages: &[Stage], path: &[usize]) -> Result<Vec<Link>, String> {
    let mut links: Vec<Link> = Vec::new();
    for &i in path {
        let stage = &stages[i];
        if matches!(stage.kind, StageKind::Softmax | StageKind::Pad(_)) {
            return Err(format!(
                "`{}`: {}",
                stage.name,
                match stage.kind {
                    StageKind::Softmax => "a softmax over features before the end",
                    _ => "a padding other than before a convolution",
                }
            ));
        }
        if let Some(before) = links.last_mut()
            && absorbed(before, stage)
        {
            continue;
        }
        let branches = match &stage.kind {
            StageKind::Branches { chains, .. } => chains
                .iter()
                .enumerate()
                .map(|(k, chain)| Ok((format!("branch{k}"), layers(stages, chain)?)))
                .collect::<Result<Vec<_>, String>>()?,
            _ => Vec::new(),
        };
        let mut link = Link {
            name: stage.name.clone(),
            kind: stage.kind.clone(),
            last: stage.last.unwrap_or(false),
            tensors: stage.tensors.clone(),
            branches,
        };
        if let StageKind::Arithmetic(operation) = stage.kind {
            link = affine(link, operation);
        }
        links.push(link);
    }
    Ok(links)
}

/// ε of a batch normalisation that only scales and shifts; the variance is what it lacks of 1.
const EPS: f64 = 1.0 / 1024.0;

/// Whether a stage is a part of the layer before it.
fn absorbed(before: &mut Link, stage: &Stage) -> bool {
    let by = stage.tensors.first().map(|(_, by)| by);
    let fits = by.map(Vec::len) == outputs(&before.kind);
    match (&mut before.kind, &stage.kind) {
        (
            StageKind::Linear { bias: bias @ false, .. }
            | StageKind::Conv1d { bias: bias @ false, .. }
            | StageKind::Conv2d { bias: bias @ false, .. },
            StageKind::Arithmetic(Operation::Add),
        ) if fits => {
            *bias = true;
            before.tensors.extend(by.map(|by| ("bias".to_owned(), by.clone())));
        }
        (&mut StageKind::Columns { over, channels, .. }, &StageKind::Pool(time)) if over == time => {
            before.kind = StageKind::Pool2d { over, channels, windows: None };
        }
        (StageKind::BatchNorm { affine: true, .. }, &StageKind::Arithmetic(operation)) => {
            match (before.tensors.first(), by) {
                (Some((_, weight)), Some(by)) if weight.len() == by.len() => {
                    apply(&mut before.tensors, operation, by);
                }
                _ => return false,
            }
        }
        _ => return false,
    }
    true
}

/// How many outputs a layer has for each step, or pixel.
fn outputs(kind: &StageKind) -> Option<usize> {
    match *kind {
        StageKind::Linear { outputs, .. } | StageKind::Conv1d { outputs, .. } => Some(outputs),
        StageKind::Conv2d { channels: [_, outputs], .. } => Some(outputs),
        _ => None,
    }
}

/// Scales and shifts by constants, as a batch normalisation whose statistics do nothing.
fn affine(link: Link, operation: Operation) -> Link {
    let by = link.tensors.into_iter().next().map(|(_, by)| by).unwrap_or_default();
    let n = by.len();
    let mut tensors = vec![("weight".to_owned(), vec![1.0; n]), ("bias".to_owned(), vec![0.0; n])];
    apply(&mut tensors, operation, &by);
    tensors.push(("running_mean".to_owned(), vec![0.0; n]));
    tensors.push(("running_var".to_owned(), vec![1.0 - EPS; n]));
    let kind = StageKind::BatchNorm { channels: Some(n), eps: EPS, momentum: 0.1, affine: true };
    Link { kind, tensors, ..link }
}

fn apply(tensors: &mut Tensors, operation: Operation, by: &[f64]) {
    let [(_, weight), (_, bias), ..] = &mut tensors[..] else { return };
    for ((weight, bias), by) in weight.iter_mut().zip(bias).zip(by) {
        match operation {
            Operation::Add => *bias += by,
            Operation::Sub => *bias -= by,
            Operation::Mul => (*weight, *bias) = (*weight * by, *bias * by),
            Operation::Div => (*weight, *bias) = (*weight / by, *bias / by),
        }
    }
}
