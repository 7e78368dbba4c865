//! Walks a parsed template over data and writes text.
//!
//! Owns scopes, control flow and field access; functions live next door.

use std::borrow::Cow;

use crate::TemplateError;
use crate::functions::{self, FunctionSet};
use crate::parser::{Base, Command, Node, Operand, Parts, Pipeline};
use crate::print::text;
use crate::value::{Kind, Nil, Object, Value, omitted};

/// How deep the walk may go: each level costs stack, and a part that uses itself never ends.
const DEPTH_MAX: usize = 250;
/// How many nodes are walked and values taken, and how many bytes are written at most: far more than any output of Docker's, and soon
/// reached by what would never end. A large value takes as many steps as it costs to copy.
const STEPS_MAX: usize = 10_000_000;
const BYTES_PER_STEP: usize = 8;
pub(crate) const BYTES_MAX: usize = 16 << 20;

/// Renders `nodes` over `data`.
pub fn render(
    nodes: &[Node],
    parts: &Parts,
    data: &Value,
    functions: FunctionSet,
) -> Result<String, TemplateError> {
    let variables = vec![("$".to_owned(), data.clone())];
    let mut eval = Eval { out: String::new(), variables, functions, parts, depth: 0, steps: 0 };
    eval.nodes(nodes, data)?;
    Ok(eval.out)
}

/// Whether the walk goes on after a node.
#[derive(PartialEq)]
enum Flow {
    On,
    Break,
    Continue,
}

struct Eval<'a> {
    out: String,
    /// A stack: scopes are cut back to their former length.
    variables: Vec<(String, Value)>,
    functions: FunctionSet,
    parts: &'a Parts,
    depth: usize,
    steps: usize,
}

impl Eval<'_> {
    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow, TemplateError> {
        self.deeper()?;
        let mut flow = Flow::On;
        for node in nodes {
            flow = self.node(node, dot)?;
            if flow != Flow::On {
                break;
            }
        }
        self.depth -= 1;
        Ok(flow)
    }

    /// One level further in. Not taken back when a template fails, since then it ends.
    fn deeper(&mut self) -> Result<(), TemplateError> {
        self.depth += 1;
        match self.depth > DEPTH_MAX {
            true => Err(TemplateError::new(1, "the parts of this template stand in too many others")),
            false => Ok(()),
        }
    }

    fn step(&mut self) -> Result<(), TemplateError> {
        self.steps(1)
    }

    fn steps(&mut self, count: usize) -> Result<(), TemplateError> {
        self.steps += count;
        match self.steps > STEPS_MAX || self.out.len() > BYTES_MAX {
            true => Err(TemplateError::new(1, "this template goes on for too long")),
            false => Ok(()),
        }
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Result<Flow, TemplateError> {
        self.step()?;
        match node {
            Node::Raw(text) => self.out.push_str(text),
            Node::Print(pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                if pipeline.variables.is_empty() {
                    self.out.push_str(&text(&value));
                }
            }
            Node::If { branches, otherwise } => return self.branches(branches, otherwise, dot, false),
            Node::With { branches, otherwise } => return self.branches(branches, otherwise, dot, true),
            Node::Range { pipeline, body, otherwise } => return self.range(pipeline, body, otherwise, dot),
            Node::Part { name, over, column } => self.part(name, over.as_ref(), *column, dot)?,
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::On)
    }

    /// A part sees its own value, and no variable of who uses it.
    fn part(
        &mut self,
        name: &str,
        over: Option<&Pipeline>,
        column: usize,
        dot: &Value,
    ) -> Result<(), TemplateError> {
        let data = match over {
            Some(pipeline) => self.pipeline(pipeline, dot)?,
            None => Value::Nil(Nil::Unknown),
        };
        let parts = self.parts;
        let Some(nodes) = parts.get(name) else {
            return Err(TemplateError::new(column, format!("there is no part {name:?}")));
        };
        let variables = std::mem::replace(&mut self.variables, vec![("$".to_owned(), data.clone())]);
        self.nodes(nodes, &data)?;
        self.variables = variables;
        Ok(())
    }

    fn branches(
        &mut self,
        branches: &[(Pipeline, Vec<Node>)],
        otherwise: &[Node],
        dot: &Value,
        moves_dot: bool,
    ) -> Result<Flow, TemplateError> {
        let scope = self.variables.len();
        let mut flow = None;
        for (pipeline, body) in branches {
            let value = self.pipeline(pipeline, dot)?;
            if value.truth() {
                flow = Some(self.nodes(body, if moves_dot { &value } else { dot })?);
                break;
            }
        }
        let flow = match flow {
            Some(flow) => flow,
            None => self.nodes(otherwise, dot)?,
        };
        self.variables.truncate(scope);
        Ok(flow)
    }

    fn range(
        &mut self,
        pipeline: &Pipeline,
        body: &[Node],
        otherwise: &[Node],
        dot: &Value,
    ) -> Result<Flow, TemplateError> {
        let scope = self.variables.len();
        let over = self.commands(pipeline, dot)?;
        let number = |i: usize| Value::Int(i64::try_from(i).unwrap_or(i64::MAX));
        let items: Box<dyn Iterator<Item = (Value, Value)>> = match over {
            Value::Nil(_) => Box::new(std::iter::empty()),
            Value::List(items) => {
                Box::new(items.into_iter().enumerate().map(move |(i, item)| (number(i), item)))
            }
            Value::Object(object) => {
                let ordered = object.ordered().into_iter();
                let items: Vec<_> = ordered.map(|(key, item)| (key.into(), item.clone())).collect();
                Box::new(items.into_iter())
            }
            Value::Int(count) => Box::new((0..count).map(|i| (Value::Int(i), Value::Int(i)))),
            other => {
                let message = format!("can't range over a {}", other.type_name());
                return Err(TemplateError::new(pipeline.column, message));
            }
        };
        let mut items = items.peekable();
        if items.peek().is_none() {
            let flow = self.nodes(otherwise, dot)?;
            self.variables.truncate(scope);
            return Ok(flow);
        }
        for (key, item) in items {
            // Also where the body is empty.
            self.step()?;
            match pipeline.variables.as_slice() {
                [one] => self.bind(one, item.clone(), pipeline)?,
                [first, second] => {
                    self.bind(first, key, pipeline)?;
                    self.bind(second, item.clone(), pipeline)?;
                }
                _ => {}
            }
            let flow = self.nodes(body, &item)?;
            self.variables.truncate(scope);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::On)
    }

    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, TemplateError> {
        let value = self.commands(pipeline, dot)?;
        if let Some(name) = pipeline.variables.first() {
            self.bind(name, value.clone(), pipeline)?;
        }
        Ok(value)
    }

    fn bind(&mut self, name: &str, value: Value, pipeline: &Pipeline) -> Result<(), TemplateError> {
        if !pipeline.assigns {
            self.variables.push((name.to_owned(), value));
            return Ok(());
        }
        match self.variables.iter_mut().rev().find(|(known, _)| known == name) {
            Some(slot) => slot.1 = value,
            None => return Err(undefined(name, pipeline.column)),
        }
        Ok(())
    }

    fn commands(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, TemplateError> {
        let mut piped = None;
        for command in &pipeline.commands {
            let value = self.command(command, dot, piped)?;
            self.steps(weight(&value))?;
            if matches!(&value, Value::Text(text) if text.len() > BYTES_MAX) {
                return Err(TemplateError::new(pipeline.column, "this becomes too long"));
            }
            piped = Some(value);
        }
        Ok(piped.unwrap_or(Value::Nil(Nil::Unknown)))
    }

    fn command(
        &mut self,
        command: &Command,
        dot: &Value,
        piped: Option<Value>,
    ) -> Result<Value, TemplateError> {
        let column = command.head.column;
        if let Base::Function(name) = &command.head.base {
            if matches!(name.as_str(), "and" | "or") {
                return self.and_or(name == "or", command, dot, piped);
            }
            let mut arguments = Vec::with_capacity(command.arguments.len() + 1);
            for argument in &command.arguments {
                arguments.push(self.operand(argument, dot)?);
            }
            arguments.extend(piped);
            if arguments.iter().map(weight).sum::<usize>() > BYTES_MAX / BYTES_PER_STEP {
                return Err(TemplateError::new(column, "these arguments are too long"));
            }
            return functions::call(name, arguments, self.functions)
                .map_err(|message| TemplateError::new(column, message));
        }
        let value = self.operand(&command.head, dot)?;
        let mut arguments = Vec::new();
        for argument in &command.arguments {
            arguments.push(self.operand(argument, dot)?);
        }
        arguments.extend(piped);
        match (value, arguments.as_slice()) {
            (Value::Lookup(map), [Value::Text(key)]) => {
                Ok(Value::Text(map.get(key).cloned().unwrap_or_default()))
            }
            (Value::Lookup(_), []) => Err(TemplateError::new(column, "this needs a name as its argument")),
            (value, []) => Ok(value),
            // Titles stand in for methods too: `.Label "a.b-c"` heads its column with `b c`.
            (Value::Text(_), [Value::Text(key)]) if self.functions == FunctionSet::Header => {
                let last = key.rsplit('.').next().unwrap_or(key);
                Ok(Value::Text(last.replace(['-', '_'], " ")))
            }
            _ => Err(TemplateError::new(column, "this is no function and takes no arguments")),
        }
    }

    /// Stops at the operand that decides, as Go does since 1.18.
    fn and_or(
        &mut self,
        stop_at: bool,
        command: &Command,
        dot: &Value,
        piped: Option<Value>,
    ) -> Result<Value, TemplateError> {
        let mut last = None;
        for argument in &command.arguments {
            let value = self.operand(argument, dot)?;
            if value.truth() == stop_at {
                return Ok(value);
            }
            last = Some(value);
        }
        piped
            .or(last)
            .ok_or_else(|| TemplateError::new(command.head.column, "and/or need at least one argument"))
    }

    fn operand(&mut self, operand: &Operand, dot: &Value) -> Result<Value, TemplateError> {
        let value = self.value_of(operand, dot)?;
        self.steps(weight(&value))?;
        Ok(value)
    }

    fn value_of(&mut self, operand: &Operand, dot: &Value) -> Result<Value, TemplateError> {
        let base = match &operand.base {
            Base::Literal(value) => value.clone(),
            Base::Dot => return fields(dot, operand),
            Base::Variable(name) => {
                let found = self.variables.iter().rev().find(|(known, _)| known == name);
                let (_, value) = found.ok_or_else(|| undefined(name, operand.column))?;
                return fields(value, operand);
            }
            Base::Function(name) => functions::call(name, Vec::new(), self.functions)
                .map_err(|message| TemplateError::new(operand.column, message))?,
            Base::Group(pipeline) => {
                self.deeper()?;
                let value = self.pipeline(pipeline, dot)?;
                self.depth -= 1;
                value
            }
        };
        fields(&base, operand)
    }
}

fn undefined(name: &str, column: usize) -> TemplateError {
    TemplateError::new(column, format!("the variable {name} is not defined"))
}

/// How many steps a copy of it is worth.
fn weight(value: &Value) -> usize {
    match value {
        Value::Text(text) => text.len() / BYTES_PER_STEP,
        Value::List(items) => items.iter().map(|item| 1 + weight(item)).sum(),
        Value::Object(object) => object.fields.iter().map(|(_, value)| 1 + weight(value)).sum(),
        _ => 0,
    }
}

/// Follows a chain of fields.
fn fields(base: &Value, operand: &Operand) -> Result<Value, TemplateError> {
    let mut value = Cow::Borrowed(base);
    for name in &operand.fields {
        value = match value {
            Cow::Borrowed(value) => field(value, name, operand.column)?,
            Cow::Owned(value) => Cow::Owned(field(&value, name, operand.column)?.into_owned()),
        };
    }
    Ok(value.into_owned())
}

fn field<'v>(value: &'v Value, name: &str, column: usize) -> Result<Cow<'v, Value>, TemplateError> {
    match value {
        Value::Object(object) => match (object.get(name), object.kind) {
            (Some(found), _) => Ok(Cow::Borrowed(found)),
            (None, Kind::Map) => Ok(Cow::Owned(Value::Nil(Nil::Unknown))),
            (None, Kind::Struct) => {
                omitted(name).map(Cow::Owned).ok_or_else(|| no_field(name, object, column))
            }
            (None, Kind::Row) => Err(no_field(name, object, column)),
        },
        Value::Nil(Nil::Map) => Ok(Cow::Owned(Value::Nil(Nil::Unknown))),
        Value::Nil(_) => {
            let message = format!("can't take .{name} from an empty value; guard it with {{{{if}}}}");
            Err(TemplateError::new(column, message))
        }
        other => Err(TemplateError::new(column, format!("can't take .{name} from a {}", other.type_name()))),
    }
}

fn no_field(name: &str, object: &Object, column: usize) -> TemplateError {
    let names: Vec<&str> = object.fields.iter().map(|(key, _)| key.as_str()).collect();
    TemplateError::new(column, format!("there is no field .{name}; there are: {}", names.join(", ")))
}
