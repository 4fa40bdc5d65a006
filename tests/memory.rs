//! What training holds in memory is what docs/performance.md says.
//!
//! One test alone in its binary: the allocator counts what all threads of the process hold.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use bptt::data::{Arrays, Batch, Draw};
use bptt::loss::CrossEntropy;
use bptt::nn::{Linear, Lstm};
use bptt::optim::Adam;
use bptt::{Model, Shape, Trainer};
use ndarray::{Array1, Array3};

/// The system's allocator, counting bytes that are held.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn training_holds_what_is_documented() {
    let paper = [(35, 2, 28, 28, 64), (35, 2, 28, 28, 7), (35, 2, 1000, 28, 64)];
    for (h, layers, t, i, batch) in paper.into_iter().chain([(8, 1, 1000, 3, 32), (128, 3, 40, 512, 100)]) {
        let x = Array3::<f32>::zeros((batch, t, i));
        let data = Arrays::classes(x, &Array1::zeros(batch), ["one", "two"]).unwrap();
        let before = HELD.load(Ordering::Relaxed);
        let mut model = Model::builder(Shape::new(t, i))
            .layer("lstm", Lstm::new(h).layers(layers).last())
            .layer("linear", Linear::new(2))
            .build(1)
            .unwrap();
        let trainer = Trainer::new(CrossEntropy::default(), Adam::new(1e-3)).batch_size(batch).threads(1);
        let mut stepper = trainer.stepper(&model, &data).unwrap();
        let indices = Draw::all(0..batch as u32);
        stepper.step(&mut model, &data, Batch::new(&indices, 1, 0)).unwrap();
        let held = HELD.load(Ordering::Relaxed) - before;

        let lanes = if batch <= 32 { 16 } else { 32 };
        let slots = batch.div_ceil(lanes).min(16);
        let parameters = model.parameter_count();
        let samples = lanes * slots * (layers * t * (7 * h + 2) + 2 * t * i + t.min(32) * h);
        let documented = 4 * (samples + (7 + slots) * parameters);
        println!("{held} bytes, documented {documented}");
        let ratio = held as f64 / documented as f64;
        assert!((0.95..1.05).contains(&ratio), "{held} bytes, documented {documented}: {ratio}");
    }
}
