//! What people see: colours, questions, progress.

use std::io::{BufRead, IsTerminal, Write};
use std::sync::Mutex;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use bellwire_infra::apply::Event;
use bellwire_infra::plan::{Action, Plan};
use bellwire_infra::resource::ResourceId;
use bellwire_infra::{Line, Tone};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::error::CommandError;

fn style_of(tone: Tone) -> Style {
    let coloured = |colour: AnsiColor| Style::new().fg_color(Some(colour.into()));
    match tone {
        Tone::Heading => Style::new().bold(),
        Tone::Step(Action::Create) => coloured(AnsiColor::Green),
        Tone::Step(Action::Update) => coloured(AnsiColor::Yellow),
        Tone::Step(Action::Replace) => coloured(AnsiColor::Magenta),
        Tone::Step(Action::Delete) => coloured(AnsiColor::Red),
        Tone::Aside => Style::new(),
    }
}

/// Prints a plan; coloured on a terminal.
pub(crate) fn plan(plan: &Plan) {
    lines(&plan.lines());
}

/// Prints lines; coloured on a terminal.
pub(crate) fn lines(lines: &[Line]) {
    for line in lines {
        let style = style_of(line.tone);
        anstream::println!("{style}{}{style:#}", line.text);
    }
}

/// Prints an error, and what to do.
pub(crate) fn error(error: &CommandError) {
    let style = Style::new().bold().fg_color(Some(AnsiColor::Red.into()));
    anstream::eprintln!("{style}error:{style:#} {error}");
}

/// Asks; only `yes` is a yes.
pub(crate) fn confirm(question: &str) -> Result<(), CommandError> {
    match ask(&format!("{question} Type yes to go on: "))?.as_str() {
        "yes" => Ok(()),
        _ => Err(CommandError::NotConfirmed),
    }
}

/// Asks, and returns the answer.
pub(crate) fn ask(question: &str) -> Result<String, CommandError> {
    if !std::io::stdin().is_terminal() {
        return Err(CommandError::NobodyToAsk);
    }
    anstream::eprint!("{question}");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.map_err(|_| CommandError::NobodyToAsk)?;
    Ok(answer.trim().to_owned())
}

/// Shows what happens while a plan is executed: a bar on a terminal, plain lines
/// elsewhere, a line of JSON each for programs.
pub(crate) struct Steps {
    bar: Option<ProgressBar>,
    is_json: bool,
    running: Mutex<Vec<ResourceId>>,
}

impl Steps {
    pub(crate) fn new(plan: &Plan, is_json: bool) -> Self {
        let is_terminal = std::io::stderr().is_terminal() && !is_json;
        let bar = is_terminal.then(|| {
            let bar = ProgressBar::new(plan.steps.len() as u64);
            let template = "  [{bar:24}] {pos}/{len}  {wide_msg}";
            let style = ProgressStyle::with_template(template)
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            bar.set_style(style.progress_chars("=> "));
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Self { bar, is_json, running: Mutex::new(Vec::new()) }
    }

    pub(crate) fn show(&self, event: &Event<'_>) {
        if self.is_json {
            if let Some(value) = as_json(event) {
                anstream::println!("{value}");
            }
            return;
        }
        match event {
            Event::Waiting { holder } => self.line(&format!(
                "  waiting for the lease of an apply that may have been killed ({holder}): at most half a minute"
            )),
            Event::Started { id, .. } => self.change_running(|running| running.push((*id).clone())),
            Event::Done { id, action, took } => {
                self.change_running(|running| running.retain(|other| other != *id));
                let style = style_of(Tone::Step(*action));
                let (sign, word, took) = (action.sign(), action.word(), took.as_secs_f64());
                self.line(&format!("  {style}{sign} {word:<8}{style:#} {id}  {took:.1} s"));
                self.bar.iter().for_each(|bar| bar.inc(1));
            }
            Event::Failed { id, action, error } => {
                self.change_running(|running| running.retain(|other| other != *id));
                let style = Style::new().fg_color(Some(AnsiColor::Red.into()));
                self.line(&format!("  {style}! failed  {style:#} {} {id}: {error}", action.word()));
            }
            _ => {}
        }
    }

    fn change_running(&self, change: impl FnOnce(&mut Vec<ResourceId>)) {
        let Ok(mut running) = self.running.lock() else { return };
        change(&mut running);
        if let (Some(bar), Some(first)) = (&self.bar, running.first()) {
            let more = running.len() - 1;
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            bar.set_message(format!("{first}{more}"));
        }
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| anstream::println!("{text}")),
            None => anstream::println!("{text}"),
        }
    }

    pub(crate) fn finish(&self) {
        self.bar.iter().for_each(ProgressBar::finish_and_clear);
    }
}

fn as_json(event: &Event<'_>) -> Option<Value> {
    let step = |what: &str, id: &ResourceId, action: &Action| json!({"event": what, "action": action, "kind": id.kind, "name": id.name});
    match event {
        Event::Waiting { holder } => Some(json!({"event": "waiting", "holder": holder})),
        Event::Started { id, action } => Some(step("started", id, action)),
        Event::Done { id, action, took } => {
            let mut value = step("done", id, action);
            value["took_s"] = json!(took.as_secs_f64());
            Some(value)
        }
        Event::Failed { id, action, error } => {
            let mut value = step("failed", id, action);
            value["error"] = json!(error.to_string());
            Some(value)
        }
        _ => None,
    }
}
