//! A stack with fewer units: the groups that they belong to, and what the stack is then.

use super::cell::{Cell, Coupling};
use super::layout::{Direction, Part};
use super::recurrent::Recurrent;
use crate::nn::{Dropout, Kept, Layer, Pool, Wiring};
use crate::{Error, Real, Result};

/// The group of a part's units, in a stack of this name.
pub(super) fn group(stack: &str, Part { layer, direction }: Part) -> String {
    format!("{stack}.l{layer}{}", direction.suffix())
}

/// The group of what its hidden state is projected to.
pub(super) fn projection(group: &str) -> String {
    format!("{group}.projection")
}

impl<C: Cell> Recurrent<C> {
    pub(super) fn units<R: Real>(&self, name: &str) -> Result<Wiring<R>> {
        let rest = match C::COUPLING {
            Coupling::Own { rest } => rest,
            Coupling::All => &[],
            Coupling::Unknown => {
                let kind = C::KIND;
                let fault = format!("found a cell of kind `{kind}`, expected one that has `Cell::COUPLING`");
                return Err(Error::config("compact", fault));
            }
        };
        let (stack, prefix) = (self.clone(), name.to_owned());
        let mut wiring = Wiring::new(move |kept| stack.smaller(&prefix, kept)).ignores_zeros();
        for part in self.parts() {
            let (group, suffix) = (group(name, part), part.direction.suffix());
            let tensor = |tensor: &str| format!("{name}.{tensor}_l{}{suffix}", part.layer);
            if self.proj_size.is_some() {
                wiring = wiring.rests(projection(&group), [(tensor("weight_hr"), 0)]);
            }
            if rest.is_empty() {
                continue;
            }
            let tensors = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"].into_iter();
            let tensors = tensors.take(if self.bias { 4 } else { 2 });
            let rows = tensors.flat_map(|name| rest.iter().map(move |&block| (name, block)));
            wiring = wiring.rests(group, rows.map(|(name, block)| (tensor(name), block)));
        }
        Ok(wiring)
    }

    fn parts(&self) -> impl Iterator<Item = Part> + use<C> {
        let directions = &Direction::ALL[..1 + usize::from(self.bidirectional)];
        (0..self.layers)
            .flat_map(move |layer| directions.iter().map(move |&direction| Part { layer, direction }))
    }

    /// The stack with the units that are kept: one stack, or one for each layer, `name.0`, `name.1` and so on, if the layers
    /// have different sizes, which PyTorch's stack cannot have either.
    fn smaller<R: Real>(&self, name: &str, kept: &mut Kept) -> Vec<(String, Box<dyn Layer<R>>)> {
        let sizes: Vec<_> = (0..self.layers).map(|layer| self.sizes(name, layer, kept)).collect();
        let with = |(hidden_size, proj_size): (usize, Option<usize>)| Self {
            hidden_size,
            proj_size,
            ..self.clone()
        };
        if !kept.is_apart() && sizes.iter().all(|size| *size == sizes[0]) {
            return vec![(name.to_owned(), Box::new(with(sizes[0])))];
        }
        // In reverse, the final state is not the last output.
        let pooled = kept.is_apart() && self.last && !self.bidirectional;
        let mut layers: Vec<(String, Box<dyn Layer<R>>)> = Vec::new();
        for (layer, &size) in sizes.iter().enumerate() {
            let top = layer + 1 == self.layers;
            let alone = Self { layers: 1, last: self.last && top && !pooled, dropout: 0.0, ..with(size) };
            layers.push((format!("{name}.{layer}"), Box::new(alone)));
            if self.dropout > 0.0 && !top {
                layers.push((format!("{name}.{layer}.dropout"), Box::new(Dropout::new(self.dropout))));
            }
        }
        if pooled {
            layers.push((format!("{name}.last"), Box::new(Pool::last())));
        }
        layers
    }

    /// The units of a layer, and of its projection. Both directions have the same numbers, those of the larger one, and a
    /// projection has fewer than what it projects.
    fn sizes(&self, name: &str, layer: usize, kept: &mut Kept) -> (usize, Option<usize>) {
        let groups: Vec<_> =
            self.parts().filter(|part| part.layer == layer).map(|part| group(name, part)).collect();
        let raise = |kept: &mut Kept, groups: &[String], least: usize| {
            let most = groups.iter().map(|group| kept.count(group)).fold(least, usize::max);
            groups.iter().for_each(|group| kept.at_least(group, most));
            most
        };
        if self.proj_size.is_none() {
            return (raise(kept, &groups, 1), None);
        }
        let projections: Vec<_> = groups.iter().map(|group| projection(group)).collect();
        let proj_size = raise(kept, &projections, 1);
        (raise(kept, &groups, proj_size + 1), Some(proj_size))
    }
}
