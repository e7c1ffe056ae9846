//! One number out of a page in Prometheus' text format: what an engine says about itself.
//!
//! Absent is not zero: a name that is not there gives none.

/// Longest page that is read.
pub const PAGE_BYTES_MAX: usize = 1 << 20;

/// The sum of a metric's samples over all labels, if there is any. Samples that are no number are
/// passed over, as are `NaN` and infinities.
pub fn sum(page: &str, name: &str) -> Option<f64> {
    let samples = page.lines().filter_map(|line| sample(line, name));
    samples.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
}

/// The same for several names, in one pass over the page.
pub fn sums<const N: usize>(page: &str, names: &[&str; N]) -> [Option<f64>; N] {
    let mut sums = [None; N];
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        for (sum, name) in sums.iter_mut().zip(names) {
            if let Some(value) = sample(line, name) {
                *sum = Some(sum.unwrap_or(0.0) + value);
            }
        }
    }
    sums
}

/// The values of a label in all samples of a metric, as they stand there.
pub fn label<'a>(page: &'a str, name: &'a str, label: &'a str) -> impl Iterator<Item = &'a str> {
    page.lines().filter_map(move |line| {
        let labels = line.strip_prefix(name)?.strip_prefix('{')?;
        let labels = labels.get(..labels_end(labels)?)?;
        let mut at = 0;
        while let Some(found) = labels.get(at..)?.find(label) {
            let begin = at + found;
            at = begin + label.len();
            let first = begin == 0 || matches!(labels.as_bytes()[begin - 1], b',' | b' ');
            let value = labels.get(at..)?.strip_prefix("=\"").filter(|_| first);
            if let Some(value) = value {
                return value.split('"').next();
            }
        }
        None
    })
}

fn sample(line: &str, name: &str) -> Option<f64> {
    let rest = line.strip_prefix(name)?;
    let rest = match rest.as_bytes().first()? {
        b'{' => rest.get(labels_end(rest)?..)?,
        b' ' | b'\t' => rest,
        _ => return None,
    };
    // A timestamp or an exemplar may follow.
    rest.split_whitespace().next()?.parse::<f64>().ok().filter(|value| value.is_finite())
}

/// Just after the closing brace; a brace within a label's value does not count.
fn labels_end(text: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'}' if !quoted => return Some(at + 1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_sums_and_tells_absent_from_zero() {
        let page = "# HELP a A.\n# TYPE a gauge\na 0.25\nab 7\na{x=\"}\\\"\",y=\"1\"} 0.5 1700000000\n\
                    zero 0\nbad x\nnan NaN\na{x=\"open\n";
        let check = |name: &str, expect: Option<f64>| assert_eq!(sum(page, name), expect, "{name}");
        check("a", Some(0.75));
        check("ab", Some(7.0));
        check("zero", Some(0.0));
        check("absent", None);
        check("bad", None);
        check("nan", None);
        assert_eq!(sums(page, &["zero", "a", "absent"]), [Some(0.0), Some(0.75), None]);
    }

    #[test]
    fn finds_labels() {
        let page = "lora{max_lora=\"4\",running=\"a,b\",x=\"}\"} 1.5\nlora{running=\"\"} 2\nlora 3\nother{running=\"c\"} 1\n";
        assert_eq!(label(page, "lora", "running").collect::<Vec<_>>(), ["a,b", ""]);
        assert_eq!(label(page, "lora", "max_lora").collect::<Vec<_>>(), ["4"]);
        assert_eq!(label(page, "lora", "lora").count(), 0);
    }
}
