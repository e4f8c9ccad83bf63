//! `RewriteCond`: what must hold for a rule, beside its pattern. Source: httpd mod_rewrite.c `apply_rewrite_cond`.

use super::flags::{self, ConditionFlag};
use super::text::{Groups, Text, Values};
use super::{Review, written};
use crate::http::answer::Refusal;
use crate::route::facts::Tell;
use crate::route::pattern::{Case, Pattern, Subject};
use std::cmp::Ordering;
use std::fmt;

/// One condition of a rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    subject: Text,
    test: Test,
    is_negated: bool,
    /// `OR`: it is enough if this one holds or the next.
    pub(super) or_next: bool,
    /// The words as they were written.
    line: String,
}

impl fmt::Display for Condition {
    /// As it was written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RewriteCond {}", self.line)
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Test {
    Pattern(Pattern),
    Text {
        order: Order,
        text: Vec<u8>,
        case: Case,
    },
    Number {
        order: Order,
        number: i64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Equal,
    NotEqual,
    Less,
    Greater,
    AtMost,
    AtLeast,
}

/// What `-x` asks of files in httpd.
const FILE_TESTS: &str = "fdslLhHxFU";

const NUMBER_TESTS: [(&str, Order); 6] = [
    ("-eq", Order::Equal),
    ("-ne", Order::NotEqual),
    ("-lt", Order::Less),
    ("-le", Order::AtMost),
    ("-gt", Order::Greater),
    ("-ge", Order::AtLeast),
];

impl Condition {
    /// Reads the three words of a line. Problems and doubts go to `review`.
    pub fn parse(subject: &str, test: &str, flags: &str, review: &mut Review<'_>) -> Option<Self> {
        // CVE-2025-54090: what is not understood must never be taken for true.
        if subject.eq_ignore_ascii_case("expr") {
            review.problems.push(
                "expressions (\"expr\") are not supported; write a condition for each part, such as RewriteCond \
                 %{REQUEST_METHOD} =GET"
                    .to_owned(),
            );
            return None;
        }
        let line = written([subject, test, flags]);
        let flags = flags::of_condition(flags, review);
        let case = if flags.contains(&ConditionFlag::NoCase) {
            Case::Insensitive
        } else {
            Case::Sensitive
        };
        let subject = review.take(Text::parse(subject, review));
        let (is_negated, test) = match test.strip_prefix('!') {
            Some(test) => (true, test),
            None => (false, test),
        };
        let test = review.take(Test::parse(test, case));
        if case == Case::Insensitive && matches!(test, Some(Test::Number { .. })) {
            review
                .doubts
                .push("NC has no effect on numbers, as in httpd".to_owned());
        }
        Some(Self {
            subject: subject?,
            test: test?,
            is_negated,
            or_next: flags.contains(&ConditionFlag::OrNext),
            line,
        })
    }

    /// Whether it holds, and what its pattern found, if it is one that was found.
    pub(super) fn holds(
        &self,
        values: &Values<'_>,
        tell: &mut Tell<'_>,
    ) -> Result<(bool, Option<Groups>), Refusal> {
        let subject = self.subject.expand(values, None)?;
        let mut groups = None;
        let passes = match &self.test {
            Test::Pattern(pattern) => {
                groups = pattern.find(&Subject::new(&subject)).map(Groups::from);
                groups.is_some()
            }
            Test::Text { order, text, case } => order.holds(compare(&subject, text, *case)),
            Test::Number { order, number } => order.holds(leading_number(&subject).cmp(number)),
        };
        let holds = passes != self.is_negated;
        tell(format_args!(
            "  {self}: \"{}\" {}",
            subject.escape_ascii(),
            if holds { "holds" } else { "does not hold" }
        ));
        Ok((holds, groups.filter(|_| !self.is_negated)))
    }
}

impl Test {
    fn parse(test: &str, case: Case) -> Result<Self, String> {
        let number = NUMBER_TESTS
            .iter()
            .find_map(|(sign, order)| Some((*order, test.strip_prefix(sign)?)));
        if let Some((order, digits)) = number {
            let number = digits.trim().parse().map_err(|_| {
                format!("\"{test}\": expected a number, in the same word, such as \"-eq 5\"")
            })?;
            return Ok(Self::Number { order, number });
        }
        let mut letters = test.chars();
        if let (Some('-'), Some(letter), None) = (letters.next(), letters.next(), letters.next())
            && FILE_TESTS.contains(letter)
        {
            return Err(format!(
                "\"{test}\" looks for a file, and this program serves none; remove the condition, and put the exceptions \
                 before it as ProxyPass /path !"
            ));
        }
        let text = [
            ("<=", Order::AtMost),
            (">=", Order::AtLeast),
            ("<", Order::Less),
            (">", Order::Greater),
            ("=", Order::Equal),
        ];
        let text = text
            .iter()
            .find_map(|(sign, order)| Some((*order, test.strip_prefix(sign)?)));
        if let Some((order, text)) = text {
            let text = if text == "\"\"" { "" } else { text };
            return Ok(Self::Text {
                order,
                text: text.as_bytes().to_vec(),
                case,
            });
        }
        Pattern::parse(test, case).map(Self::Pattern)
    }
}

impl Order {
    fn holds(self, found: Ordering) -> bool {
        match self {
            Self::Equal => found.is_eq(),
            Self::NotEqual => found.is_ne(),
            Self::Less => found.is_lt(),
            Self::Greater => found.is_gt(),
            Self::AtMost => found.is_le(),
            Self::AtLeast => found.is_ge(),
        }
    }
}

/// As httpd: the shorter text is the lesser one, unless case does not count (`compare_lexicography`).
fn compare(a: &[u8], b: &[u8], case: Case) -> Ordering {
    match case {
        Case::Sensitive => a.len().cmp(&b.len()).then_with(|| a.cmp(b)),
        Case::Insensitive => a.to_ascii_lowercase().cmp(&b.to_ascii_lowercase()),
    }
}

/// The number that a text begins with; 0 if it begins with none (C `atoi`). What is too large is the largest there is.
fn leading_number(text: &[u8]) -> i64 {
    let text = text.trim_ascii_start();
    let (sign, digits) = match text {
        [b'-', digits @ ..] => (-1, digits),
        [b'+', digits @ ..] => (1, digits),
        digits => (1, digits),
    };
    let digits = digits.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0_i64, |number, digit| {
        let digit = i64::from(*digit - b'0') * sign;
        number.saturating_mul(10).saturating_add(digit)
    })
}
