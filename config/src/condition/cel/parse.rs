//! Tokens into an expression: precedence climbing, bounded in depth and size.

use super::token::{Token, tokens};
use super::{At, Fault};

/// Levels of brackets, calls and conditionals within each other.
const DEPTH_MAX: usize = 24;
/// Parts of one expression.
const PARTS_MAX: usize = 256;

/// Words that CEL keeps for itself.
const RESERVED: [&str; 17] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// An expression as written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Expr {
    pub(super) at: At,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(String),
    List(Vec<Expr>),
    /// `{key: value}`
    Map(Vec<[Expr; 2]>),
    Name(String),
    /// `of.name`
    Field(Box<Expr>, String),
    /// `of[key]`
    Index(Box<Expr>, Box<Expr>),
    /// `name(args)` or `of.name(args)`
    Call(Option<Box<Expr>>, String, Vec<Expr>),
    /// `!` or `-`
    Unary(&'static str, Box<Expr>),
    Binary(&'static str, Box<[Expr; 2]>),
    /// `if ? then : else`
    Choice(Box<[Expr; 3]>),
}

/// Parses a text.
pub(super) fn parse(text: &str) -> Result<Expr, Fault> {
    let tokens = tokens(text)?;
    let mut parser = Parser { tokens, next: 0, depth: 0, parts: 0 };
    let expr = parser.expression()?;
    match parser.peek() {
        Token::End => Ok(expr),
        token => {
            Err(parser.fault(format!("{} stands where the condition should end", shown(token)), "join two conditions with `&&` or `||`"))
        }
    }
}

fn shown(token: &Token) -> String {
    match token {
        Token::Name(name) => format!("`{name}`"),
        Token::Int(number) => format!("`{number}`"),
        Token::Uint(number) => format!("`{number}u`"),
        Token::Double(number) => format!("`{number}`"),
        Token::Text(_) => "a string".to_owned(),
        Token::Mark(mark) => format!("`{mark}`"),
        Token::End => "the end".to_owned(),
    }
}

struct Parser {
    tokens: Vec<(Token, At)>,
    next: usize,
    depth: usize,
    parts: usize,
}

/// How tightly an operator binds; those of one number from left to right.
fn binding(token: &Token) -> Option<(u8, &'static str)> {
    Some(match token {
        Token::Mark(mark @ "||") => (1, mark),
        Token::Mark(mark @ "&&") => (2, mark),
        Token::Mark(mark @ ("==" | "!=" | "<" | "<=" | ">" | ">=")) => (3, mark),
        Token::Name(name) if name == "in" => (3, "in"),
        Token::Mark(mark @ ("+" | "-")) => (4, mark),
        Token::Mark(mark @ ("*" | "/" | "%")) => (5, mark),
        _ => return None,
    })
}

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.next).map_or(&Token::End, |(token, _)| token)
    }

    fn at(&self) -> At {
        self.tokens.get(self.next).or(self.tokens.last()).map_or(0..0, |(_, at)| at.clone())
    }

    fn take(&mut self) -> (Token, At) {
        let taken = (self.peek().clone(), self.at());
        self.next += 1;
        taken
    }

    fn takes(&mut self, mark: &'static str) -> bool {
        let is_it = *self.peek() == Token::Mark(mark);
        self.next += usize::from(is_it);
        is_it
    }

    fn takes_or_fails(&mut self, mark: &'static str) -> Result<At, Fault> {
        let at = self.at();
        if self.takes(mark) {
            return Ok(at);
        }
        Err(self.fault(format!("{} stands where `{mark}` should", shown(self.peek())), format!("write `{mark}` there")))
    }

    fn fault(&self, message: impl Into<String>, hint: impl Into<String>) -> Fault {
        Fault { at: self.at().start as usize, message: message.into(), hint: hint.into() }
    }

    fn make(&mut self, at: At, kind: Kind) -> Result<Expr, Fault> {
        self.parts += 1;
        if self.parts > PARTS_MAX {
            let message = format!("the condition has more than {PARTS_MAX} parts");
            return Err(Fault { at: at.start as usize, message, hint: "split it over several rules".to_owned() });
        }
        Ok(Expr { at, kind })
    }

    fn expression(&mut self) -> Result<Expr, Fault> {
        if self.depth == DEPTH_MAX {
            return Err(self.fault(format!("more than {DEPTH_MAX} levels"), "take it apart"));
        }
        self.depth += 1;
        let expr = self.choice();
        self.depth -= 1;
        expr
    }

    fn choice(&mut self) -> Result<Expr, Fault> {
        let condition = self.binary(0)?;
        if !self.takes("?") {
            return Ok(condition);
        }
        let then = self.expression()?;
        self.takes_or_fails(":")?;
        let otherwise = self.expression()?;
        let at = condition.at.start..otherwise.at.end;
        self.make(at, Kind::Choice(Box::new([condition, then, otherwise])))
    }

    fn binary(&mut self, least: u8) -> Result<Expr, Fault> {
        let mut left = self.unary()?;
        while let Some((binds, operator)) = binding(self.peek()).filter(|(binds, _)| *binds > least) {
            self.next += 1;
            let right = self.binary(binds)?;
            let at = left.at.start..right.at.end;
            left = self.make(at, Kind::Binary(operator, Box::new([left, right])))?;
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Expr, Fault> {
        let operator = match self.peek() {
            Token::Mark(mark @ ("!" | "-")) => *mark,
            _ => return self.member(),
        };
        let (_, at) = self.take();
        // The least of all numbers has no positive counterpart.
        if let ("-", Token::Int(number)) = (operator, self.peek().clone())
            && let Some(number) = 0_i64.checked_sub_unsigned(number)
        {
            let (_, end) = self.take();
            let number = self.make(at.start..end.end, Kind::Int(number))?;
            return self.members(number);
        }
        if self.depth == DEPTH_MAX {
            return Err(self.fault(format!("more than {DEPTH_MAX} levels"), "take it apart"));
        }
        self.depth += 1;
        let of = self.unary();
        self.depth -= 1;
        let of = of?;
        let at = at.start..of.at.end;
        self.make(at, Kind::Unary(operator, Box::new(of)))
    }

    fn member(&mut self) -> Result<Expr, Fault> {
        let primary = self.primary()?;
        self.members(primary)
    }

    fn members(&mut self, mut of: Expr) -> Result<Expr, Fault> {
        loop {
            let start = of.at.start;
            if self.takes(".") {
                let (token, at) = self.take();
                let Token::Name(name) = token else {
                    self.next -= 1;
                    return Err(
                        self.fault(format!("{} stands where a name should", shown(&token)), "write the name of a field or function")
                    );
                };
                if *self.peek() == Token::Mark("(") {
                    let (args, end) = self.arguments("(", ")")?;
                    of = self.make(start..end, Kind::Call(Some(Box::new(of)), name, args))?;
                } else {
                    of = self.make(start..at.end, Kind::Field(Box::new(of), name))?;
                }
            } else if self.takes("[") {
                let key = self.expression()?;
                let end = self.takes_or_fails("]")?.end;
                of = self.make(start..end, Kind::Index(Box::new(of), Box::new(key)))?;
            } else {
                return Ok(of);
            }
        }
    }

    /// Expressions in brackets, and where they end.
    fn arguments(&mut self, open: &'static str, close: &'static str) -> Result<(Vec<Expr>, u32), Fault> {
        self.takes_or_fails(open)?;
        let mut args = Vec::new();
        while *self.peek() != Token::Mark(close) {
            args.push(self.expression()?);
            if !self.takes(",") {
                break;
            }
        }
        Ok((args, self.takes_or_fails(close)?.end))
    }

    fn primary(&mut self) -> Result<Expr, Fault> {
        let at = self.at();
        let kind = match self.peek().clone() {
            Token::Int(number) => match i64::try_from(number) {
                Ok(number) => Kind::Int(number),
                Err(_) => {
                    return Err(
                        self.fault(format!("`{number}` has more than 64 bits"), format!("write `{number}u` for an unsigned number"))
                    );
                }
            },
            Token::Uint(number) => Kind::Uint(number),
            Token::Double(number) => Kind::Double(number),
            Token::Text(text) => Kind::Text(text),
            Token::Name(name) => return self.name(name, at),
            Token::Mark("(") => {
                self.next += 1;
                let mut inner = self.expression()?;
                inner.at = at.start..self.takes_or_fails(")")?.end;
                return Ok(inner);
            }
            Token::Mark("[") => {
                let (items, end) = self.arguments("[", "]")?;
                return self.make(at.start..end, Kind::List(items));
            }
            Token::Mark("{") => return self.map(at.start),
            token => {
                return Err(self
                    .fault(format!("{} stands where a value should", shown(&token)), "write a name, a number, a string, a list or a map"));
            }
        };
        self.next += 1;
        self.make(at, kind)
    }

    /// `{"name": value, …}`
    fn map(&mut self, start: u32) -> Result<Expr, Fault> {
        self.takes_or_fails("{")?;
        let mut entries = Vec::new();
        while *self.peek() != Token::Mark("}") {
            let key = self.expression()?;
            self.takes_or_fails(":")?;
            entries.push([key, self.expression()?]);
            if !self.takes(",") {
                break;
            }
        }
        let end = self.takes_or_fails("}")?.end;
        self.make(start..end, Kind::Map(entries))
    }

    fn name(&mut self, name: String, at: At) -> Result<Expr, Fault> {
        if name == "in" || RESERVED.contains(&&*name) {
            return Err(self.fault(format!("`{name}` is a word of the language"), "write a name, a number, a string or a list"));
        }
        self.next += 1;
        let kind = match &*name {
            "true" => Kind::Bool(true),
            "false" => Kind::Bool(false),
            "null" => Kind::Null,
            _ if *self.peek() == Token::Mark("(") => {
                let (args, end) = self.arguments("(", ")")?;
                return self.make(at.start..end, Kind::Call(None, name, args));
            }
            _ => Kind::Name(name),
        };
        self.make(at, kind)
    }
}
