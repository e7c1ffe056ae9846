//! What the pages of all reports share: text as HTML may hold it, and where a number lies in a drawing.

/// A text that may stand anywhere in a page, in an attribute too.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // Control characters are not text, and some of them may not stand in HTML.
            char if char.is_control() => escaped.push(' '),
            char => escaped.push(char),
        }
    }
    escaped
}

/// An axis from zero to a round number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    /// Its end.
    pub end: f64,
    /// The distance between two numbers that are shown.
    step: f64,
    /// Where zero is drawn, and where the end.
    drawn: (f64, f64),
}

impl Scale {
    /// An axis that shows everything up to `most`, with about `parts` numbers.
    pub fn new(most: f64, parts: f64, drawn: (f64, f64)) -> Self {
        let most = if most.is_finite() && most > 0.0 { most } else { 1.0 };
        let rough = most / parts;
        let power = 10.0_f64.powf(rough.log10().floor());
        let factors = [1.0, 2.0, 2.5, 5.0];
        let fitting = factors.into_iter().find(|factor| factor * power >= rough * 0.999);
        let step = fitting.unwrap_or(10.0) * power;
        Self { end: (most / step - 1e-9).ceil() * step, step, drawn }
    }

    /// The same axis, ending where the numbers do: time stops, it is not rounded up.
    pub fn ending(self, end: f64) -> Self {
        Self { end: if end > 0.0 { end } else { self.end }, ..self }
    }

    /// Where a number is drawn.
    pub fn place(self, number: f64) -> f64 {
        let (zero, end) = self.drawn;
        zero + (number / self.end).clamp(0.0, 1.0) * (end - zero)
    }

    /// The numbers to show.
    pub fn marks(self) -> impl Iterator<Item = f64> {
        let count = (self.end / self.step + 1e-9) as u32;
        (0..=count).map(move |number| f64::from(number) * self.step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_show_round_numbers() {
        let check = |most: f64, expect: &[f64]| {
            let scale = Scale::new(most, 4.0, (0.0, 100.0));
            assert_eq!(scale.marks().collect::<Vec<_>>(), expect, "{most}");
            assert_eq!(scale.end, expect[expect.len() - 1], "{most}");
        };
        check(0.0, &[0.0, 0.25, 0.5, 0.75, 1.0]);
        check(f64::INFINITY, &[0.0, 0.25, 0.5, 0.75, 1.0]);
        check(20_000.0, &[0.0, 5_000.0, 10_000.0, 15_000.0, 20_000.0]);
        check(17_104.0, &[0.0, 5_000.0, 10_000.0, 15_000.0, 20_000.0]);
        check(7.0, &[0.0, 2.0, 4.0, 6.0, 8.0]);
        check(39.0, &[0.0, 10.0, 20.0, 30.0, 40.0]);
    }

    #[test]
    fn numbers_have_their_place() {
        let scale = Scale::new(10.0, 4.0, (200.0, 0.0));
        assert_eq!((scale.place(0.0), scale.place(5.0), scale.place(10.0)), (200.0, 100.0, 0.0));
        assert_eq!(scale.place(99.0), 0.0);
        let scale = Scale::new(570.0, 5.0, (0.0, 57.0)).ending(570.0);
        assert_eq!(scale.place(570.0), 57.0);
        assert!(scale.marks().all(|mark| mark <= 570.0));
    }

    #[test]
    fn a_page_holds_any_text() {
        assert_eq!(
            escape("<a href='x' b=\"&\">\u{7}"),
            "&lt;a href=&#39;x&#39; b=&quot;&amp;&quot;&gt; "
        );
    }
}
