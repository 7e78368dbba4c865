//! Walks a parsed template over data and writes text.
//!
//! Owns scopes, control flow and field access; functions live next door.

use super::TemplateError;
use super::functions::{self, FunctionSet};
use super::parser::{Base, Command, Node, Operand, Pipeline};
use super::print::text;
use super::value::{Kind, Nil, Object, Value, omitted};

/// Renders `nodes` over `data`.
pub fn render(nodes: &[Node], data: &Value, functions: FunctionSet) -> Result<String, TemplateError> {
    let mut eval = Eval { out: String::new(), variables: vec![("$".to_owned(), data.clone())], functions };
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

struct Eval {
    out: String,
    /// A stack: scopes are cut back to their former length.
    variables: Vec<(String, Value)>,
    functions: FunctionSet,
}

impl Eval {
    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow, TemplateError> {
        for node in nodes {
            let flow = self.node(node, dot)?;
            if flow != Flow::On {
                return Ok(flow);
            }
        }
        Ok(Flow::On)
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Result<Flow, TemplateError> {
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
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::On)
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
        let items: Vec<(Value, Value)> = match over {
            Value::Nil(_) => Vec::new(),
            Value::List(items) => {
                items.into_iter().enumerate().map(|(i, item)| (Value::Int(i as i64), item)).collect()
            }
            Value::Object(object) => {
                object.ordered().into_iter().map(|(key, item)| (key.into(), item.clone())).collect()
            }
            Value::Int(count) => (0..count).map(|i| (Value::Int(i), Value::Int(i))).collect(),
            other => {
                let message = format!("can't range over a {}", other.type_name());
                return Err(TemplateError::new(pipeline.column, message));
            }
        };
        if items.is_empty() {
            let flow = self.nodes(otherwise, dot)?;
            self.variables.truncate(scope);
            return Ok(flow);
        }
        for (key, item) in items {
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
            piped = Some(self.command(command, dot, piped)?);
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
            Base::Group(pipeline) => self.pipeline(pipeline, dot)?,
        };
        fields(&base, operand)
    }
}

fn undefined(name: &str, column: usize) -> TemplateError {
    TemplateError::new(column, format!("the variable {name} is not defined"))
}

/// Follows a chain of fields.
fn fields(base: &Value, operand: &Operand) -> Result<Value, TemplateError> {
    let mut value = base.clone();
    for name in &operand.fields {
        value = field(&value, name, operand.column)?;
    }
    Ok(value)
}

fn field(value: &Value, name: &str, column: usize) -> Result<Value, TemplateError> {
    match value {
        Value::Object(object) => match (object.get(name), object.kind) {
            (Some(found), _) => Ok(found.clone()),
            (None, Kind::Map) => Ok(Value::Nil(Nil::Unknown)),
            (None, Kind::Struct) => omitted(name).ok_or_else(|| no_field(name, object, column)),
            (None, Kind::Row) => Err(no_field(name, object, column)),
        },
        Value::Nil(Nil::Map) => Ok(Value::Nil(Nil::Unknown)),
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
