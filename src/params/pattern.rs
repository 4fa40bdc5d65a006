//! Patterns over names of tensors.

/// Whether `name` matches `pattern`, in which `*` matches any run of characters, including none.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(head) else { return false };
    // Text between two stars is taken at its first occurrence; text after the last star must be the end.
    let (middle, tail) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in middle.split('*') {
        match name.find(part) {
            Some(at) => name = &name[at + part.len()..],
            None => return false,
        }
    }
    name.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_match_anything() {
        let name = "lstm.weight_hh_l0";
        for pattern in [name, "*", "**", "lstm.*", "*l0", "*.weight_hh_*", "l*w*_*0", "lstm*.weight_hh_l0"] {
            assert!(matches(pattern, name), "{pattern}");
        }
        for pattern in ["", "lstm", "weight_hh_l0", "*.weight_ih_*", "lstm.*l1", "*.weight_hh", "*0*0", "x*"]
        {
            assert!(!matches(pattern, name), "{pattern}");
        }
        // Neither end may be used twice.
        assert!(!matches("ab*ba", "aba") && matches("ab*ba", "abba"));
        assert!(!matches("*ab*ab", "ab") && matches("", ""));
    }
}
