//! The guide's programs, in a crate that depends on this one: each trains to a stated quality, or fails.

#[path = "../../../docs/guide/classify.rs"]
mod classify;
#[path = "../../../docs/guide/forecast.rs"]
mod forecast;
#[path = "../../../docs/guide/serve.rs"]
mod serve;
#[path = "../../../docs/guide/tag.rs"]
mod tag;

type Result = std::result::Result<(), Box<dyn std::error::Error>>;

#[test]
fn sequences_are_classified() -> Result {
    classify::main()
}

#[test]
fn a_series_is_forecast() -> Result {
    forecast::main()
}

#[test]
fn steps_are_tagged() -> Result {
    tag::main()
}

#[test]
fn streams_are_served() -> Result {
    serve::main()
}
