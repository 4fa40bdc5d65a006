//! What datasets that are made of another one take from it.

/// The methods of [`Dataset`](super::Dataset) that are `$data`'s own, of its sample `$inner` where they are of a `$sample`.
///
/// A macro, since a trait's methods cannot be passed on by a function: `impl<M: Mapped> Dataset for M` would overlap with the
/// implementation for references.
macro_rules! forward {
    ($self:ident to $data:expr, $sample:ident is $inner:expr) => {
        fn shape(&$self) -> Shape {
            $data.shape()
        }

        fn target_shape(&$self) -> TargetShape {
            $data.target_shape()
        }

        fn length(&$self, $sample: Sample) -> Option<usize> {
            $data.length($inner)
        }

        fn weight(&$self, $sample: Sample) -> f64 {
            $data.weight($inner)
        }

        fn classes(&$self, $sample: Sample, classes: &mut [i64]) {
            $data.classes($inner, classes);
        }

        fn values(&$self, $sample: Sample, values: &mut [Self::Elem]) {
            $data.values($inner, values);
        }

        fn class_names(&$self) -> &[String] {
            $data.class_names()
        }
    };
}

pub(super) use forward;
