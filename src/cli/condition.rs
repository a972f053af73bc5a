//! Conditions on completions, `FIELD OPERATOR VALUE`, and sort orders.

use super::error::{CliError, Kind};
use crate::event::{Completion, StopReason};
use crate::store::{Comparison, MetricCondition};
use crate::suggestion::did_you_mean;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::str::FromStr;

/// Fields that every completion has, besides its reward components.
const FIELDS: [&str; 11] = [
    "step",
    "row",
    "index",
    "tokens",
    "stop_reason",
    "reward",
    "advantage",
    "prompt",
    "completion",
    "reference",
    "answer",
];
/// The fields that contain text.
const TEXTS: [&str; 5] = ["stop_reason", "prompt", "completion", "reference", "answer"];
const STOP_REASONS: [StopReason; 3] = [StopReason::StopToken, StopReason::StopString, StopReason::Length];
/// The value that matches missing ones.
const MISSING: &str = "missing";
/// Longer operators come first, because the first match is taken.
const OPERATORS: [(&str, Operator); 7] = [
    ("<=", Operator::AtMost),
    (">=", Operator::AtLeast),
    ("!=", Operator::Differs),
    ("=", Operator::Equals),
    ("<", Operator::Below),
    (">", Operator::Above),
    ("~", Operator::Contains),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equals,
    Differs,
    Below,
    AtMost,
    Above,
    AtLeast,
    Contains,
}

/// A field's value in one completion.
enum Value<'a> {
    Number(f64),
    Text(&'a str),
}

/// A condition as the user typed it, for instance `reward<0.2`.
#[derive(Clone, Debug)]
pub(super) struct Condition {
    field: String,
    operator: Operator,
    value: String,
}

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_name = |c: char| c.is_ascii_alphanumeric() || "_-/@".contains(c);
        let end = text.find(|c| !is_name(c)).unwrap_or(text.len());
        // the name of a slice's metric ends with `{BY=VALUE}`
        let slice = text[end..].starts_with('{').then(|| text[end..].find('}')).flatten();
        let end = slice.map_or(end, |close| end + close + 1);
        let (field, rest) = (&text[..end], text[end..].trim_start());
        let found = OPERATORS.iter().find_map(|(sign, operator)| Some((rest.strip_prefix(sign)?, *operator)));
        match found {
            Some((value, operator)) if !field.is_empty() => {
                Ok(Self { field: field.to_owned(), operator, value: value.trim().to_owned() })
            }
            _ => Err("write FIELD OPERATOR VALUE, like 'reward<0.2'; the operators are = != < <= > >= ~".to_owned()),
        }
    }
}

impl Condition {
    /// Checks the condition's field, value and operator.
    ///
    /// # Errors
    /// The field is neither common to all completions nor one of `components`, or its value or operator does not fit.
    pub(super) fn check(&self, components: &BTreeSet<String>) -> Result<(), CliError> {
        check_field(&self.field, components)?;
        let Self { field, operator, value } = self;
        let usage = |message: String| Err(CliError::new(Kind::Usage, message));
        let compares = !matches!(operator, Operator::Equals | Operator::Differs);
        if value == MISSING && !compares {
            return Ok(());
        }
        if TEXTS.contains(&field.as_str()) {
            if compares && *operator != Operator::Contains {
                return usage(format!("`{field}` is a text; its operators are = != and ~ (contains)"));
            }
            let words = STOP_REASONS.map(StopReason::word);
            if field == "stop_reason" && !compares && !words.contains(&value.as_str()) {
                return Err(CliError::new(Kind::Usage, format!("no completion ends with `{value}`"))
                    .hint(did_you_mean(value, "values of `stop_reason`", &words)));
            }
            return Ok(());
        }
        match value.parse::<f64>() {
            _ if *operator == Operator::Contains => {
                usage(format!("`{field}` is a number; ~ (contains) is for texts only"))
            }
            Ok(number) if !number.is_nan() => Ok(()),
            _ => usage(format!("expected a number or `{MISSING}` for `{field}`, found `{value}`")),
        }
    }

    /// Converts the condition to one on a number of stages in the history.
    ///
    /// # Errors
    /// The operator is `~`, or the value is not a number.
    pub(super) fn on_stages(&self) -> Result<MetricCondition, CliError> {
        let comparison = match self.operator {
            Operator::Equals => Comparison::Equal,
            Operator::Differs => Comparison::NotEqual,
            Operator::Below => Comparison::Below,
            Operator::AtMost => Comparison::AtMost,
            Operator::Above => Comparison::Above,
            Operator::AtLeast => Comparison::AtLeast,
            Operator::Contains => {
                let message = format!("`{}` is a number; ~ (contains) is for texts only", self.field);
                return Err(CliError::new(Kind::Usage, message));
            }
        };
        match self.value.parse::<f64>() {
            Ok(bound) if !bound.is_nan() => Ok(MetricCondition { name: self.field.clone(), comparison, bound }),
            _ => {
                let message = format!("expected a number for `{}`, found `{}`", self.field, self.value);
                Err(CliError::new(Kind::Usage, message))
            }
        }
    }

    /// Whether `completion` fulfils the condition. A missing value fulfils only `= missing`.
    pub(super) fn holds(&self, completion: &Completion) -> bool {
        let value = value(completion, &self.field);
        match (self.operator, value) {
            (Operator::Equals, found) if self.value == MISSING => found.is_none(),
            (Operator::Differs, found) if self.value == MISSING => found.is_some(),
            (_, None) => false,
            (operator, Some(Value::Text(text))) => match operator {
                Operator::Equals => text == self.value,
                Operator::Differs => text != self.value,
                Operator::Contains => text.contains(&self.value),
                _ => false,
            },
            (operator, Some(Value::Number(number))) => {
                let order = self.value.parse().ok().and_then(|wanted| number.partial_cmp(&wanted));
                order.is_some_and(|order| match operator {
                    Operator::Equals => order.is_eq(),
                    Operator::Differs => order.is_ne(),
                    Operator::Below => order.is_lt(),
                    Operator::AtMost => order.is_le(),
                    Operator::Above => order.is_gt(),
                    Operator::AtLeast => order.is_ge(),
                    Operator::Contains => false,
                })
            }
        }
    }
}

/// A sort order as the user typed it: a field in ascending order, or with `-` before it in descending order.
#[derive(Clone, Debug)]
pub(super) struct Order {
    field: String,
    descending: bool,
}

impl FromStr for Order {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let descending = text.starts_with('-');
        Ok(Self { field: text.trim_start_matches('-').to_owned(), descending })
    }
}

impl Order {
    /// Checks the order's field.
    ///
    /// # Errors
    /// The field is neither common to all completions nor one of `components`.
    pub(super) fn check(&self, components: &BTreeSet<String>) -> Result<(), CliError> {
        check_field(&self.field, components)
    }

    /// Compares two completions. One without a value comes last.
    pub(super) fn compare(&self, a: &Completion, b: &Completion) -> Ordering {
        let order = match (value(a, &self.field), value(b, &self.field)) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Greater,
            (Some(_), None) => return Ordering::Less,
            (Some(Value::Number(a)), Some(Value::Number(b))) => a.total_cmp(&b),
            (Some(Value::Text(a)), Some(Value::Text(b))) => a.cmp(b),
            (Some(_), Some(_)) => Ordering::Equal,
        };
        if self.descending { order.reverse() } else { order }
    }
}

fn check_field(field: &str, components: &BTreeSet<String>) -> Result<(), CliError> {
    if FIELDS.contains(&field) || components.contains(component(field)) {
        return Ok(());
    }
    let known: Vec<&str> = FIELDS.into_iter().chain(components.iter().map(String::as_str)).collect();
    Err(CliError::new(Kind::Usage, format!("completions have no field `{field}`"))
        .hint(did_you_mean(field, "fields", &known)))
}

/// Returns a component's name without the prefix of metrics, `reward/NAME`. The prefix also distinguishes it from a
/// field of the same name.
fn component(field: &str) -> &str {
    field.strip_prefix("reward/").unwrap_or(field)
}

/// Returns the value of `field` in `completion`; `None` if it is missing.
fn value<'a>(completion: &'a Completion, field: &str) -> Option<Value<'a>> {
    Some(match field {
        "step" => Value::Number(completion.step as f64),
        "row" => Value::Number(completion.row as f64),
        "index" => Value::Number(completion.index as f64),
        "tokens" => Value::Number(completion.tokens as f64),
        "stop_reason" => Value::Text(completion.stop_reason.word()),
        "reward" => Value::Number(completion.reward?),
        "advantage" => Value::Number(completion.advantage?),
        "prompt" => Value::Text(&completion.prompt),
        "completion" => Value::Text(&completion.completion),
        "reference" => Value::Text(completion.reference.as_deref()?),
        "answer" => Value::Text(completion.answer.as_deref()?),
        _ => Value::Number(completion.parts.get(component(field))?.value?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::ComponentScore;
    use std::collections::BTreeMap;

    fn completion(reward: Option<f64>, format: Option<f64>) -> Completion {
        Completion {
            step: 3,
            row: 5,
            index: 0,
            prompt: "Which organ?".to_owned(),
            completion: "the heart".to_owned(),
            reference: None,
            answer: Some("B".to_owned()),
            tokens: 20,
            stop_reason: StopReason::Length,
            player: None,
            reward,
            advantage: reward,
            parts: BTreeMap::from([(
                "format".to_owned(),
                ComponentScore { value: format, weight: 1.0, missing: None },
            )]),
            eval: None,
        }
    }

    fn holds(text: &str, completion: &Completion) -> bool {
        let condition: Condition = text.parse().unwrap();
        condition.check(&BTreeSet::from(["format".to_owned()])).unwrap();
        condition.holds(completion)
    }

    #[test]
    fn conditions_ask_about_fields_and_components() {
        let one = completion(Some(0.1), Some(0.0));
        let fulfilled = [
            "reward<0.2",
            "reward <= 0.1",
            "reward>-1",
            "reward>=0.1",
            "reward!=0.2",
            "format=0",
            "reward/format=0",
            "stop_reason=length",
            "stop_reason!=stop_token",
            "completion~heart",
            "answer=B",
            "reference=missing",
            "reward!=missing",
            "step=3",
            "tokens>1e1",
        ];
        for text in fulfilled {
            assert!(holds(text, &one), "{text}");
        }
        for text in ["reward>0.2", "format!=0", "format>0", "completion~liver", "answer!=B", "row=4", "reward=missing"]
        {
            assert!(!holds(text, &one), "{text}");
        }
    }

    #[test]
    fn what_is_missing_fulfils_nothing_but_that_it_is_missing() {
        let none = completion(None, None);
        for text in ["reward<1", "reward>=-1", "reward!=5", "format=0", "reference~a"] {
            assert!(!holds(text, &none), "{text}");
        }
        assert!(
            holds("reward=missing", &none) && holds("format=missing", &none) && holds("advantage = missing", &none)
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_does() {
        for text in ["", "reward", "<3", "reward is 3", "reward(3)"] {
            assert!(text.parse::<Condition>().unwrap_err().contains("FIELD OPERATOR VALUE"), "{text}");
        }
        let refused = |text: &str| {
            let condition: Condition = text.parse().unwrap();
            let error = condition.check(&BTreeSet::from(["format".to_owned()])).unwrap_err();
            format!("{error:?}")
        };
        assert!(refused("formt=0").contains("did you mean `format`?"), "{}", refused("formt=0"));
        assert!(refused("formt=0").contains("`stop_reason`"));
        assert!(refused("stop_reason=lenght").contains("did you mean `length`?"));
        assert!(refused("reward=high").contains("expected a number or `missing`"));
        assert!(refused("reward=nan").contains("expected a number or `missing`"));
        assert!(refused("reward<missing").contains("expected a number or `missing`"));
        assert!(refused("completion<a").contains("its operators are = != and ~"));
        assert!(refused("tokens~3").contains("is a number"));
    }

    #[test]
    fn an_order_puts_what_is_missing_last_both_ways() {
        let order = |text: &str| {
            let order: Order = text.parse().unwrap();
            let mut all = [completion(Some(0.5), None), completion(None, None), completion(Some(-1.0), None)];
            all.sort_by(|a, b| order.compare(a, b));
            all.map(|completion| completion.reward)
        };
        assert_eq!(order("reward"), [Some(-1.0), Some(0.5), None]);
        assert_eq!(order("-reward"), [Some(0.5), Some(-1.0), None]);
        assert!("lenght".parse::<Order>().unwrap().check(&BTreeSet::new()).is_err());
    }
}
