//! Turns tokens into a tree of nodes.
//!
//! Owns the grammar of actions; knows nothing of values' types or of printing.

use std::collections::BTreeMap;

use crate::TemplateError;
use crate::lexer::{Token, TokenKind, tokens};
use crate::value::{Nil, Value};

/// A node of a parsed template.
#[derive(Clone, Debug)]
pub enum Node {
    Raw(String),
    Print(Pipeline),
    If {
        branches: Vec<(Pipeline, Vec<Node>)>,
        otherwise: Vec<Node>,
    },
    With {
        branches: Vec<(Pipeline, Vec<Node>)>,
        otherwise: Vec<Node>,
    },
    Range {
        pipeline: Pipeline,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
    /// A part with a name, over a value of its own or none.
    Part {
        name: String,
        over: Option<Pipeline>,
        column: usize,
    },
    Break,
    Continue,
}

/// Parts by their names: what `define` and `block` hold.
pub type Parts = BTreeMap<String, Vec<Node>>;

/// How deep actions and parentheses may stand in each other. Templates come from strangers, too (log tags), and every
/// level costs stack.
const DEPTH_MAX: usize = 100;

/// Commands joined by `|`, whose result may be kept in variables.
#[derive(Clone, Debug)]
pub struct Pipeline {
    pub variables: Vec<String>,
    /// `=` instead of `:=`.
    pub assigns: bool,
    pub commands: Vec<Command>,
    pub column: usize,
}

/// An operand with its arguments.
#[derive(Clone, Debug)]
pub struct Command {
    pub head: Operand,
    pub arguments: Vec<Operand>,
}

#[derive(Clone, Debug)]
pub struct Operand {
    pub base: Base,
    /// Fields taken one after the other from the base.
    pub fields: Vec<String>,
    pub column: usize,
}

#[derive(Clone, Debug)]
pub enum Base {
    Literal(Value),
    Dot,
    Variable(String),
    Function(String),
    Group(Box<Pipeline>),
}

/// Parses a whole template.
pub fn parse(source: &str) -> Result<(Vec<Node>, Parts), TemplateError> {
    let mut parser = Parser { tokens: tokens(source)?, at: 0, loops: 0, depth: 0, parts: Parts::new() };
    let (nodes, end) = parser.nodes()?;
    match end {
        End::Source => Ok((nodes, parser.parts)),
        End::Keyword(word, column) => {
            Err(TemplateError::new(column, format!("{{{{{word}}}}} without something to belong to")))
        }
    }
}

/// What ended a list of nodes.
enum End {
    Source,
    Keyword(&'static str, usize),
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    loops: usize,
    depth: usize,
    parts: Parts,
}

impl Parser {
    /// One level further in.
    fn deeper<T>(
        &mut self,
        column: usize,
        inner: impl FnOnce(&mut Self) -> Result<T, TemplateError>,
    ) -> Result<T, TemplateError> {
        if self.depth == DEPTH_MAX {
            return Err(TemplateError::new(column, "this stands in too many others"));
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    fn nodes(&mut self) -> Result<(Vec<Node>, End), TemplateError> {
        let mut nodes = Vec::new();
        while let Some(token) = self.tokens.get(self.at).cloned() {
            match &token.kind {
                TokenKind::Raw(text) => {
                    self.at += 1;
                    nodes.push(Node::Raw(text.clone()));
                }
                TokenKind::Identifier(word) => {
                    let keyword = match word.as_str() {
                        "end" => Some("end"),
                        "else" => Some("else"),
                        _ => None,
                    };
                    if let Some(keyword) = keyword {
                        self.at += 1;
                        return Ok((nodes, End::Keyword(keyword, token.column)));
                    }
                    nodes.push(self.keyword_or_print(&word.clone(), token.column)?);
                }
                _ => nodes.push(self.print()?),
            }
        }
        Ok((nodes, End::Source))
    }

    fn keyword_or_print(&mut self, word: &str, column: usize) -> Result<Node, TemplateError> {
        match word {
            "if" | "with" => {
                self.at += 1;
                self.deeper(column, |parser| parser.conditional(word, column))
            }
            "range" => {
                self.at += 1;
                self.deeper(column, |parser| parser.range(column))
            }
            "break" | "continue" => {
                if self.loops == 0 {
                    return Err(TemplateError::new(column, format!("{{{{{word}}}}} outside of a range")));
                }
                self.at += 1;
                self.close()?;
                Ok(if word == "break" { Node::Break } else { Node::Continue })
            }
            "define" if self.depth > 0 => {
                Err(TemplateError::new(column, "{{define}} has no place within another action"))
            }
            "define" => {
                self.at += 1;
                let name = self.name(word)?;
                self.close()?;
                self.deeper(column, |parser| parser.part(name, word, column))?;
                Ok(Node::Raw(String::new()))
            }
            "template" | "block" => {
                self.at += 1;
                let name = self.name(word)?;
                let over = if self.at_operand() { Some(self.pipeline()?) } else { None };
                self.close()?;
                if word == "block" {
                    if over.is_none() {
                        return Err(TemplateError::new(column, "this block needs a value behind its name"));
                    }
                    self.deeper(column, |parser| parser.part(name.clone(), word, column))?;
                }
                Ok(Node::Part { name, over, column })
            }
            _ => self.print(),
        }
    }

    /// The name of a part, a string.
    fn name(&mut self, word: &str) -> Result<String, TemplateError> {
        match self.kind().cloned() {
            Some(TokenKind::Text(name)) => {
                self.at += 1;
                Ok(name)
            }
            _ => Err(TemplateError::new(self.column(), format!("{{{{{word}}}}} needs a name in quotes"))),
        }
    }

    /// Keeps what stands up to `{{end}}` under a name. An empty part gives way to another of its name.
    fn part(&mut self, name: String, word: &str, column: usize) -> Result<(), TemplateError> {
        let loops = std::mem::take(&mut self.loops);
        let (body, end) = self.nodes()?;
        self.loops = loops;
        match end {
            End::Keyword("end", _) => self.close()?,
            End::Keyword(other, at) => {
                return Err(TemplateError::new(at, format!("{{{{{other}}}}} has no place in this {word}")));
            }
            End::Source => return Err(missing_end(word, column)),
        }
        let is_empty = |nodes: &[Node]| {
            nodes.iter().all(|node| matches!(node, Node::Raw(text) if text.trim().is_empty()))
        };
        match self.parts.get(&name) {
            Some(known) if !is_empty(known) && !is_empty(&body) => {
                return Err(TemplateError::new(column, format!("there are two parts {name:?}")));
            }
            Some(known) if !is_empty(known) => {}
            _ => drop(self.parts.insert(name, body)),
        }
        Ok(())
    }

    fn print(&mut self) -> Result<Node, TemplateError> {
        let pipeline = self.pipeline()?;
        self.close()?;
        Ok(Node::Print(pipeline))
    }

    /// `if` and `with`: a chain of branches up to `{{end}}`.
    fn conditional(&mut self, word: &str, column: usize) -> Result<Node, TemplateError> {
        let mut branches = Vec::new();
        let mut otherwise = Vec::new();
        loop {
            let pipeline = self.pipeline()?;
            self.close()?;
            let (body, end) = self.nodes()?;
            branches.push((pipeline, body));
            match end {
                End::Keyword("end", _) => {
                    self.close()?;
                    break;
                }
                End::Keyword(_, _) if self.at_identifier(word) => self.at += 1,
                End::Keyword(_, _) => {
                    self.close()?;
                    otherwise = self.body_to_end(word, column)?;
                    break;
                }
                End::Source => return Err(missing_end(word, column)),
            }
        }
        Ok(match word {
            "if" => Node::If { branches, otherwise },
            _ => Node::With { branches, otherwise },
        })
    }

    fn range(&mut self, column: usize) -> Result<Node, TemplateError> {
        let pipeline = self.pipeline()?;
        self.close()?;
        self.loops += 1;
        let (body, end) = self.nodes()?;
        self.loops -= 1;
        let otherwise = match end {
            End::Keyword("end", _) => {
                self.close()?;
                Vec::new()
            }
            End::Keyword(_, _) => {
                self.close()?;
                self.body_to_end("range", column)?
            }
            End::Source => return Err(missing_end("range", column)),
        };
        Ok(Node::Range { pipeline, body, otherwise })
    }

    fn body_to_end(&mut self, word: &str, column: usize) -> Result<Vec<Node>, TemplateError> {
        match self.nodes()? {
            (body, End::Keyword("end", _)) => {
                self.close()?;
                Ok(body)
            }
            (_, End::Keyword(second, at)) => {
                Err(TemplateError::new(at, format!("a second {{{{{second}}}}} in this {word}")))
            }
            (_, End::Source) => Err(missing_end(word, column)),
        }
    }

    fn pipeline(&mut self) -> Result<Pipeline, TemplateError> {
        let column = self.column();
        let (variables, assigns) = self.declaration();
        let mut commands = vec![self.command()?];
        while self.take(&TokenKind::Pipe) {
            commands.push(self.command()?);
        }
        Ok(Pipeline { variables, assigns, commands, column })
    }

    /// `$x :=`, `$x =` or `$i, $x :=`; nothing is consumed when there is none.
    fn declaration(&mut self) -> (Vec<String>, bool) {
        let start = self.at;
        let mut names = Vec::new();
        while let Some(TokenKind::Variable(name)) = self.kind() {
            names.push(name.clone());
            self.at += 1;
            if !self.take(&TokenKind::Comma) {
                break;
            }
        }
        if !names.is_empty() && names.len() <= 2 {
            if self.take(&TokenKind::Declare) {
                return (names, false);
            }
            if self.take(&TokenKind::Assign) {
                return (names, true);
            }
        }
        self.at = start;
        (Vec::new(), false)
    }

    fn command(&mut self) -> Result<Command, TemplateError> {
        let head = self.operand()?;
        let mut arguments = Vec::new();
        while self.at_operand() {
            arguments.push(self.operand()?);
        }
        Ok(Command { head, arguments })
    }

    fn at_operand(&self) -> bool {
        !matches!(
            self.kind(),
            None | Some(
                TokenKind::Pipe
                    | TokenKind::Close
                    | TokenKind::CloseParen
                    | TokenKind::Comma
                    | TokenKind::Declare
                    | TokenKind::Assign
                    | TokenKind::Raw(_)
            )
        )
    }

    fn operand(&mut self) -> Result<Operand, TemplateError> {
        let column = self.column();
        let Some(token) = self.tokens.get(self.at).cloned() else {
            return Err(TemplateError::new(column, "the template ends in the middle of an action"));
        };
        self.at += 1;
        let mut fields = Vec::new();
        let base = match token.kind {
            TokenKind::Text(text) => Base::Literal(Value::Text(text)),
            TokenKind::Int(value) => Base::Literal(Value::Int(value)),
            TokenKind::Float(value) => Base::Literal(Value::Float(value)),
            TokenKind::Identifier(word) => match word.as_str() {
                "true" => Base::Literal(Value::Bool(true)),
                "false" => Base::Literal(Value::Bool(false)),
                "nil" => Base::Literal(Value::Nil(Nil::Pointer)),
                _ => Base::Function(word),
            },
            TokenKind::Dot => Base::Dot,
            TokenKind::Field(name) => {
                fields.push(name);
                Base::Dot
            }
            TokenKind::Variable(name) => Base::Variable(name),
            TokenKind::OpenParen => {
                let inner = self.deeper(token.column, Self::pipeline)?;
                if !self.take(&TokenKind::CloseParen) {
                    return Err(TemplateError::new(token.column, "this parenthesis is not closed"));
                }
                Base::Group(Box::new(inner))
            }
            _ => return Err(TemplateError::new(token.column, "a value is missing here")),
        };
        while let Some(Token { kind: TokenKind::Field(name), spaced: false, .. }) = self.tokens.get(self.at) {
            fields.push(name.clone());
            self.at += 1;
        }
        if matches!(base, Base::Function(_) | Base::Literal(_)) && !fields.is_empty() {
            return Err(TemplateError::new(column, "a field can't be taken from this; use parentheses"));
        }
        Ok(Operand { base, fields, column })
    }

    fn close(&mut self) -> Result<(), TemplateError> {
        if self.take(&TokenKind::Close) {
            return Ok(());
        }
        Err(TemplateError::new(self.column(), "this doesn't belong here; expected }}"))
    }

    fn take(&mut self, kind: &TokenKind) -> bool {
        let matches = self.kind() == Some(kind);
        if matches {
            self.at += 1;
        }
        matches
    }

    fn at_identifier(&self, word: &str) -> bool {
        matches!(self.kind(), Some(TokenKind::Identifier(found)) if found == word)
    }

    fn kind(&self) -> Option<&TokenKind> {
        self.tokens.get(self.at).map(|token| &token.kind)
    }

    fn column(&self) -> usize {
        match self.tokens.get(self.at).or(self.tokens.last()) {
            Some(token) => token.column,
            None => 1,
        }
    }
}

fn missing_end(word: &str, column: usize) -> TemplateError {
    TemplateError::new(column, format!("this {word} has no {{{{end}}}}"))
}
