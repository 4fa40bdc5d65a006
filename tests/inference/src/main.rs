//! The native program: prints the outputs that the WebAssembly module returns.

fn main() {
    (0..8).for_each(|i| println!("{}", f32::from_bits(bptt_inference::output(i))));
}
