//! Floats that round-trip through JSON exactly, including non-finite ones.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number; in JSON, a number or one of `"inf"`, `"-inf"`, `"NaN"`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct JsonFloat(pub(super) f64);

impl Serialize for JsonFloat {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if self.0.is_finite() { to.serialize_f64(self.0) } else { to.collect_str(&self.0) }
    }
}

impl<'de> Deserialize<'de> for JsonFloat {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Number(f64),
            Text(String),
        }
        match Either::deserialize(from)? {
            Either::Number(number) => Ok(Self(number)),
            Either::Text(text) => text.parse().map(Self).map_err(serde::de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_to_the_bit() {
        let third = 1.0 / 3.0;
        for x in [0.0, -0.0, third, 1e300, 5e-324, 2.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
            let json = serde_json::to_string(&JsonFloat(x)).unwrap();
            let back: JsonFloat = serde_json::from_str(&json).unwrap();
            assert_eq!(back.0.to_bits(), x.to_bits(), "{x} by way of {json}");
            let value = serde_json::to_value(JsonFloat(x)).unwrap();
            let back: JsonFloat = serde_json::from_value(value).unwrap();
            assert_eq!(back.0.to_bits(), x.to_bits(), "{x} by way of a value");
        }
        assert!(serde_json::from_str::<JsonFloat>("\"nine\"").is_err());
    }
}
