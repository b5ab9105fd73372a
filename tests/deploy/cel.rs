//! As much of CEL as the chart's policy uses, so that tests can ask the policy about requests without an API server. Unknown syntax is an error.
//!
//! Objects are maps here, as they are when an API server evaluates a policy.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

/// Variables by their names.
pub(crate) type Scope = BTreeMap<String, Value>;

#[derive(Clone, Debug)]
enum Expr {
    Literal(Value),
    Name(String),
    List(Vec<Expr>),
    /// `object.key`, `object[key]`, and with `?` an optional.
    Field {
        object: Box<Expr>,
        key: Box<Expr>,
        is_optional: bool,
    },
    /// A function, or a method with its object as the first argument.
    Call(String, Vec<Expr>),
    Operator(String, Box<Expr>, Box<Expr>),
}

/// `None` is an optional without a value.
type Found = Option<Value>;

/// The value of an expression.
pub(crate) fn evaluate(text: &str, scope: &Scope) -> Result<Value> {
    let mut parser = Parser { tokens: tokens(text)?, at: 0 };
    let expr = parser.operators(0)?;
    ensure!(parser.at == parser.tokens.len(), "{text}: rest {:?}", &parser.tokens[parser.at..]);
    value(&expr, scope).with_context(|| text.to_owned())?.with_context(|| format!("{text} has no value"))
}

fn tokens(text: &str) -> Result<Vec<String>> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let length = if first == '"' {
            rest[1..].find('"').with_context(|| format!("no end of {rest}"))? + 2
        } else if is_name(first) {
            rest.find(|c| !is_name(c)).unwrap_or(rest.len())
        } else {
            let pairs = ["==", "!=", "&&", "||", ".?", "[?"];
            pairs.iter().find(|pair| rest.starts_with(**pair)).map_or(1, |pair| pair.len())
        };
        tokens.push(rest[..length].to_owned());
        rest = rest[length..].trim_start();
    }
    Ok(tokens)
}

struct Parser {
    tokens: Vec<String>,
    at: usize,
}

impl Parser {
    /// From the weakest operators to the strongest.
    fn operators(&mut self, level: usize) -> Result<Expr> {
        const LEVELS: [&[&str]; 3] = [&["||"], &["&&"], &["==", "!=", "in"]];
        let Some(operators) = LEVELS.get(level) else { return self.operand() };
        let mut left = self.operators(level + 1)?;
        while let Some(operator) = operators.iter().find(|operator| self.takes(operator)) {
            let right = self.operators(level + 1)?;
            left = Expr::Operator((*operator).to_owned(), Box::new(left), Box::new(right));
        }
        Ok(left)
    }

    fn operand(&mut self) -> Result<Expr> {
        let token = self.next()?;
        let mut expr = if let Some(text) = token.strip_prefix('"') {
            Expr::Literal(json!(text.trim_end_matches('"')))
        } else if let Ok(number) = token.parse::<u64>() {
            Expr::Literal(json!(number))
        } else if token == "[" {
            Expr::List(self.list("]")?)
        } else if token == "(" {
            let inner = self.operators(0)?;
            self.expect(")")?;
            inner
        } else if token.starts_with(char::is_alphabetic) {
            if self.takes("(") { Expr::Call(token, self.list(")")?) } else { Expr::Name(token) }
        } else {
            bail!("unknown: {token}")
        };
        loop {
            let is_optional = |parser: &mut Self, plain: &str, optional: &str| {
                if parser.takes(plain) { Some(false) } else { parser.takes(optional).then_some(true) }
            };
            if let Some(is_optional) = is_optional(self, ".", ".?") {
                let name = self.next()?;
                expr = if self.takes("(") {
                    Expr::Call(name, [vec![expr], self.list(")")?].concat())
                } else {
                    Expr::Field { object: Box::new(expr), key: Box::new(Expr::Literal(json!(name))), is_optional }
                };
            } else if let Some(is_optional) = is_optional(self, "[", "[?") {
                let key = Box::new(self.operators(0)?);
                self.expect("]")?;
                expr = Expr::Field { object: Box::new(expr), key, is_optional };
            } else {
                return Ok(expr);
            }
        }
    }

    fn list(&mut self, end: &str) -> Result<Vec<Expr>> {
        let mut items = Vec::new();
        while !self.takes(end) {
            items.push(self.operators(0)?);
            if !self.takes(",") {
                self.expect(end)?;
                break;
            }
        }
        Ok(items)
    }

    fn takes(&mut self, token: &str) -> bool {
        let is_next = self.tokens.get(self.at).is_some_and(|next| next == token);
        self.at += usize::from(is_next);
        is_next
    }

    fn expect(&mut self, token: &str) -> Result<()> {
        ensure!(self.takes(token), "no {token} at {:?}", &self.tokens[self.at..]);
        Ok(())
    }

    fn next(&mut self) -> Result<String> {
        let token = self.tokens.get(self.at).cloned().context("it ends early")?;
        self.at += 1;
        Ok(token)
    }
}

fn value(expr: &Expr, scope: &Scope) -> Result<Found> {
    let of = |expr: &Expr| value(expr, scope)?.context("an optional without a value");
    Ok(Some(match expr {
        Expr::Literal(value) => value.clone(),
        Expr::Name(name) => scope.get(name).with_context(|| format!("no variable {name}"))?.clone(),
        Expr::List(items) => items.iter().map(of).collect::<Result<_>>()?,
        Expr::Field { object, key, is_optional } => {
            // A field of an optional is an optional, too.
            let Some(object) = value(object, scope)? else { return Ok(None) };
            let key = of(key)?;
            let index = key.as_u64().and_then(|index| usize::try_from(index).ok());
            let field = key.as_str().and_then(|name| object.get(name)).or_else(|| object.get(index?));
            if field.is_none() && *is_optional {
                return Ok(None);
            }
            field.with_context(|| format!("no field {key}"))?.clone()
        }
        Expr::Call(name, arguments) => match (&**name, &arguments[..]) {
            ("dyn", [argument]) => of(argument)?,
            ("orValue", [optional, default]) => match value(optional, scope)? {
                Some(found) => found,
                None => of(default)?,
            },
            ("all" | "filter", [list, Expr::Name(item), body]) => {
                let items = elements(&of(list)?)?;
                let mut kept = Vec::new();
                for element in &items {
                    let mut inner = scope.clone();
                    inner.insert(item.clone(), element.clone());
                    let holds = value(body, &inner)?.and_then(|value| value.as_bool()).context("no boolean")?;
                    kept.extend(holds.then(|| element.clone()));
                }
                if name == "all" { json!(kept.len() == items.len()) } else { json!(kept) }
            }
            _ => bail!("unknown: {name}"),
        },
        // Optionals are equal if both have no value.
        Expr::Operator(operator, left, right) if operator == "==" => json!(value(left, scope)? == value(right, scope)?),
        Expr::Operator(operator, left, right) if operator == "!=" => json!(value(left, scope)? != value(right, scope)?),
        Expr::Operator(operator, left, right) => {
            let left = of(left)?;
            match &**operator {
                "&&" if left == false => left,
                "||" if left == true => left,
                "&&" | "||" => of(right)?,
                "in" => json!(elements(&of(right)?)?.contains(&left)),
                _ => bail!("unknown: {operator}"),
            }
        }
    }))
}

/// The items of a list, or the keys of a map.
fn elements(value: &Value) -> Result<Vec<Value>> {
    let keys = |map: &serde_json::Map<_, _>| map.keys().map(|key: &String| json!(key)).collect();
    value
        .as_array()
        .cloned()
        .or_else(|| value.as_object().map(keys))
        .with_context(|| format!("nothing to list: {value}"))
}

#[test]
fn expressions_have_their_values() -> Result<()> {
    let scope: Scope = [("x".to_owned(), json!({"a": [1, 2], "b": {"c": "d"}}))].into();
    for (text, expected) in [
        (r#"x.b.c == "d" && x["a"][1] == 2"#, json!(true)),
        (r#"x.?z.orValue([])"#, json!([])),
        (r#"x.?z == x.?y && x.?z != x.?a"#, json!(true)),
        (r#"x[?"z"][0].orValue("none")"#, json!("none")),
        (r#"x.all(key, key in ["a", "b"])"#, json!(true)),
        (r#"dyn(x.a).filter(n, n != 1)"#, json!([2])),
        (r#""q" in x || ("a" in x && x.a == [1, 2])"#, json!(true)),
    ] {
        let found = evaluate(text, &scope)?;
        ensure!(found == expected, "{text}: {found}");
    }
    for wrong in ["y", "x.z", "x.a.size()", "x.a +", "x.b ? 1", "x[?\"z\"]"] {
        ensure!(evaluate(wrong, &scope).is_err(), "{wrong} has a value");
    }
    Ok(())
}
