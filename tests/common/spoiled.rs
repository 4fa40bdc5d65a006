//! A dataset that turns bad in the middle of a run.

use std::sync::atomic::{AtomicUsize, Ordering};

use bptt::Shape;
use bptt::data::{Arrays, Dataset, Sample, TargetShape};

/// Samples that have a class that there is not, once as many have been read as there are: before the first step, ranks compare
/// them.
pub struct Spoiled {
    data: Arrays<f32>,
    spoils: bool,
    read: AtomicUsize,
}

impl Spoiled {
    /// The samples of `data`, which turn bad only if `spoils` is true.
    pub fn new(data: Arrays<f32>, spoils: bool) -> Self {
        Self { data, spoils, read: AtomicUsize::new(0) }
    }
}

impl Dataset for Spoiled {
    type Elem = f32;

    fn len(&self) -> usize {
        self.data.len()
    }

    fn shape(&self) -> Shape {
        self.data.shape()
    }

    fn target_shape(&self) -> TargetShape {
        self.data.target_shape()
    }

    fn read(&self, sample: Sample, x: &mut [f32]) {
        self.data.read(sample, x);
    }

    fn classes(&self, sample: Sample, classes: &mut [i64]) {
        self.data.classes(sample, classes);
        if self.spoils && self.read.fetch_add(1, Ordering::Relaxed) >= self.len() {
            classes[0] = 99;
        }
    }
}
