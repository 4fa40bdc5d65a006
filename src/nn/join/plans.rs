//! What a layer that holds layers has computed for each shape of its input.

use std::sync::OnceLock;

use crate::Shape;

/// A list to which `build` appends and that passes read, without a lock: a pass must not wait for another thread, and a
/// model may be built for sequences of another length while it is in use.
#[derive(Debug)]
pub(super) struct Plans<P>(OnceLock<Box<Entry<P>>>);

#[derive(Debug)]
struct Entry<P> {
    input: Shape,
    plan: P,
    next: Plans<P>,
}

impl<P> Default for Plans<P> {
    fn default() -> Self {
        Self(OnceLock::new())
    }
}

impl<P> Plans<P> {
    /// What there is for inputs of this shape.
    pub fn get(&self, input: Shape) -> Option<&P> {
        let mut list = self;
        while let Some(entry) = list.0.get() {
            if entry.input == input {
                return Some(&entry.plan);
            }
            list = &entry.next;
        }
        None
    }

    /// Adds `plan`, unless there is one for this shape, and returns what there is then.
    pub fn insert(&self, input: Shape, plan: P) -> &P {
        let (mut list, mut plan) = (self, Some(plan));
        loop {
            let new = || {
                Box::new(Entry {
                    input,
                    plan: plan.take().expect("one end of a list"),
                    next: Self::default(),
                })
            };
            let entry = list.0.get_or_init(new);
            if entry.input == input {
                return &entry.plan;
            }
            list = &entry.next;
        }
    }
}
