//! What the terminal shows of a picture, and what the keys do.

use std::cmp::Ordering;

use ratatui::Frame;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row as Cells, Table};
use wirespan_export::table::human_duration;

use super::picture::{Figures, Picture, Request, Row};

/// Smallest window that is drawn, in characters.
const SMALLEST: (u16, u16) = (60, 8);

/// What is shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum View {
    Services,
    Operations,
    Edges,
    Slowest,
    Failed,
}

impl View {
    const ALL: [Self; 5] = [
        Self::Services,
        Self::Operations,
        Self::Edges,
        Self::Slowest,
        Self::Failed,
    ];

    const fn title(self) -> &'static str {
        match self {
            Self::Services => "services",
            Self::Operations => "operations",
            Self::Edges => "edges",
            Self::Slowest => "slowest",
            Self::Failed => "failed",
        }
    }

    /// The columns that name a row, and how wide they are.
    fn names(self) -> &'static [(&'static str, Constraint)] {
        const SIDE: (&str, Constraint) = ("SIDE", Constraint::Length(6));
        const PROTOCOL: (&str, Constraint) = ("PROTOCOL", Constraint::Length(10));
        match self {
            Self::Services => &[("SERVICE", Constraint::Fill(1)), SIDE],
            Self::Operations => &[
                ("SERVICE", Constraint::Length(15)),
                SIDE,
                PROTOCOL,
                ("OPERATION", Constraint::Fill(1)),
            ],
            Self::Edges => &[
                ("CLIENT", Constraint::Fill(1)),
                ("SERVER", Constraint::Fill(1)),
                PROTOCOL,
            ],
            Self::Slowest | Self::Failed => &[
                ("AT", Constraint::Length(12)),
                ("DURATION", Constraint::Length(8)),
                ("SERVICE", Constraint::Length(15)),
                SIDE,
                PROTOCOL,
                ("STATUS", Constraint::Length(9)),
                ("WHAT", Constraint::Fill(1)),
                ("PEER", Constraint::Length(21)),
            ],
        }
    }
}

/// By what the rows of a table are ordered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Order {
    Name,
    Rate,
    Errors,
    P50,
    P95,
    P99,
    Max,
    Ever,
}

impl Order {
    const ALL: [Self; 8] = [
        Self::Name,
        Self::Rate,
        Self::Errors,
        Self::P50,
        Self::P95,
        Self::P99,
        Self::Max,
        Self::Ever,
    ];

    /// Heading and width of the column of figures.
    const fn column(self) -> (&'static str, u16) {
        match self {
            Self::Name => ("NAME", 0),
            Self::Rate => ("RATE/s", 8),
            Self::Errors => ("ERRORS", 7),
            Self::P50 => ("P50", 7),
            Self::P95 => ("P95", 7),
            Self::P99 => ("P99", 7),
            Self::Max => ("MAX", 7),
            Self::Ever => ("TOTAL", 8),
        }
    }

    /// How rows are ordered: the largest figure first, names from A to Z.
    fn compare(self, a: &Row, b: &Row) -> Ordering {
        let (x, y) = (&a.figures, &b.figures);
        let by_figure = match self {
            Self::Name => Ordering::Equal,
            Self::Rate => y.count.cmp(&x.count),
            Self::Errors => y.errors.cmp(&x.errors),
            Self::P50 => y.p50.cmp(&x.p50),
            Self::P95 => y.p95.cmp(&x.p95),
            Self::P99 => y.p99.cmp(&x.p99),
            Self::Max => y.max.cmp(&x.max),
            Self::Ever => y.ever.cmp(&x.ever),
        };
        let name = |row: &Row| {
            let row = row.clone();
            (row.service, row.peer, row.side, row.protocol, row.operation)
        };
        by_figure.then_with(|| name(a).cmp(&name(b)))
    }
}

/// Whether the program goes on after a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Then {
    Continue,
    Quit,
}

/// The state of the screen.
#[derive(Debug)]
pub(crate) struct Screen {
    /// Where the pictures come from.
    source: String,
    picture: Picture,
    view: View,
    order: Order,
    reversed: bool,
    /// Rows must contain this, in any case.
    filter: String,
    /// Whether keys go to the filter.
    typing: bool,
    paused: bool,
    /// Rows above the first that is shown.
    scroll: usize,
    /// Why no more pictures come.
    ended: Option<String>,
}

impl Screen {
    pub(crate) fn new(source: String) -> Self {
        Self {
            source,
            picture: Picture::default(),
            view: View::Services,
            order: Order::Rate,
            reversed: false,
            filter: String::new(),
            typing: false,
            paused: false,
            scroll: 0,
            ended: None,
        }
    }

    /// Takes a new picture, unless the screen is held.
    pub(crate) fn show(&mut self, picture: Picture) {
        self.ended = None;
        if !self.paused {
            self.picture = picture;
        }
    }

    /// Says that no more pictures come, and why; the last one stays.
    pub(crate) fn end(&mut self, why: String) {
        self.ended = Some(why);
    }

    /// Does what a key asks for.
    pub(crate) fn key(&mut self, key: KeyEvent) -> Then {
        if key.kind == KeyEventKind::Release {
            return Then::Continue;
        }
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c' | 'd') if control => return Then::Quit,
            code if self.typing => self.type_key(code),
            KeyCode::Char('q') => return Then::Quit,
            code => self.command(code),
        }
        Then::Continue
    }

    fn type_key(&mut self, code: KeyCode) {
        match code {
            KeyCode::Char(c) => self.filter.push(c),
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Esc => {
                self.filter.clear();
                self.typing = false;
            }
            KeyCode::Enter => self.typing = false,
            _ => {}
        }
        self.scroll = 0;
    }

    fn command(&mut self, code: KeyCode) {
        match code {
            KeyCode::Tab => self.turn_to(next(&View::ALL, self.view, 1)),
            KeyCode::BackTab => self.turn_to(next(&View::ALL, self.view, -1)),
            KeyCode::Char(digit @ '1'..='5') => {
                self.turn_to(View::ALL[digit as usize - '1' as usize]);
            }
            KeyCode::Right | KeyCode::Char('s') => self.order = next(&Order::ALL, self.order, 1),
            KeyCode::Left | KeyCode::Char('S') => self.order = next(&Order::ALL, self.order, -1),
            KeyCode::Char('r') => self.reversed = !self.reversed,
            KeyCode::Char('/') => self.typing = true,
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Down | KeyCode::Char('j') => self.scroll += 1,
            KeyCode::Up | KeyCode::Char('k') => self.scroll = self.scroll.saturating_sub(1),
            KeyCode::PageDown => self.scroll += 10,
            KeyCode::PageUp => self.scroll = self.scroll.saturating_sub(10),
            KeyCode::Home | KeyCode::Char('g') => self.scroll = 0,
            _ => {}
        }
    }

    fn turn_to(&mut self, view: View) {
        self.view = view;
        self.scroll = 0;
    }

    /// Draws all of it.
    pub(crate) fn draw(&mut self, frame: &mut Frame<'_>) {
        let area = frame.area();
        if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
            let text = format!(
                "This window is {}x{}; wirespan top needs {}x{}. q quits.",
                area.width, area.height, SMALLEST.0, SMALLEST.1
            );
            let text = Paragraph::new(text).wrap(ratatui::widgets::Wrap { trim: true });
            frame.render_widget(text, area);
            return;
        }
        let heights = [
            Constraint::Length(2),
            Constraint::Fill(1),
            Constraint::Length(1),
        ];
        let [head, body, foot] = Layout::vertical(heights).areas(area);
        frame.render_widget(Paragraph::new(self.head()), head);
        match self.view {
            View::Services => self.table(frame, body, self.picture.services.clone()),
            View::Operations => self.table(frame, body, self.picture.operations.clone()),
            View::Edges => self.table(frame, body, self.picture.edges.clone()),
            View::Slowest => self.list(frame, body, self.picture.slowest.clone()),
            View::Failed => self.list(frame, body, self.picture.failed.clone()),
        }
        frame.render_widget(Paragraph::new(self.foot()), foot);
    }

    fn head(&self) -> Vec<Line<'static>> {
        let (total, seconds) = (&self.picture.total, self.picture.seconds);
        let mut first = vec![
            Span::styled("wirespan top", Modifier::BOLD),
            Span::raw(format!(
                "  {}  {} requests/s, {} errors in the last {seconds:.0} s; {} since it began",
                self.source,
                rate(total, seconds),
                share(total),
                total.ever,
            )),
        ];
        if self.picture.lost_events > 0 {
            let lost = format!("  {} events lost", self.picture.lost_events);
            first.push(Span::styled(lost, Color::Red));
        }
        let mut second = Vec::new();
        for (i, view) in View::ALL.iter().enumerate() {
            let style = match *view == self.view {
                true => Style::new().add_modifier(Modifier::REVERSED),
                false => Style::new(),
            };
            second.push(Span::styled(format!(" {} {} ", i + 1, view.title()), style));
        }
        if self.paused {
            second.push(Span::styled("  held", Color::Yellow));
        }
        vec![Line::from(first), Line::from(second)]
    }

    fn foot(&self) -> Line<'static> {
        if self.typing {
            return Line::from(format!("filter: {}_", self.filter));
        }
        if let Some(why) = &self.ended {
            return Line::styled(format!("{why}  (q quits)"), Color::Red);
        }
        let filter = match self.filter.as_str() {
            "" => String::new(),
            filter => format!("  [{filter}]"),
        };
        Line::styled(
            format!(
                "1-5 Tab view  s sort: {}{}  r reverse  / filter  p hold  q quit{filter}",
                self.order.column().0,
                if self.reversed { " reversed" } else { "" },
            ),
            Modifier::DIM,
        )
    }

    /// Draws a table of figures.
    fn table(&mut self, frame: &mut Frame<'_>, area: Rect, mut rows: Vec<Row>) {
        rows.retain(|row| {
            let names = [
                &row.service,
                &row.peer,
                &row.side,
                &row.protocol,
                &row.operation,
            ];
            self.matches(&names)
        });
        rows.sort_by(|a, b| {
            let order = self.order.compare(a, b);
            if self.reversed {
                order.reverse()
            } else {
                order
            }
        });
        let names = self.view.names();
        let figures = Order::ALL.iter().filter(|order| **order != Order::Name);
        let mut widths: Vec<_> = names.iter().map(|(_, width)| *width).collect();
        let mut heading: Vec<_> = names.iter().map(|(name, _)| Cell::new(*name)).collect();
        for order in figures.clone() {
            let (name, width) = order.column();
            let style = match *order == self.order {
                true => Style::new().add_modifier(Modifier::UNDERLINED),
                false => Style::new(),
            };
            heading.push(Cell::new(Line::styled(name, style).right_aligned()));
            widths.push(Constraint::Length(width));
        }
        let seconds = self.picture.seconds;
        let visible = self.visible(rows, area);
        let cells = visible.into_iter().map(|row| {
            let names: Vec<_> = match self.view {
                View::Services => vec![row.service, row.side],
                View::Operations => vec![row.service, row.side, row.protocol, row.operation],
                _ => vec![row.service, row.peer, row.protocol],
            };
            let names = names.into_iter().map(Cell::new);
            let of = row.figures;
            let figures = figures.clone().map(|order| {
                let text = figure(*order, &of, seconds);
                let cell = Cell::new(Line::raw(text).right_aligned());
                match *order == Order::Errors && of.errors > 0 {
                    true => cell.style(Color::Red),
                    false => cell,
                }
            });
            Cells::new(names.chain(figures))
        });
        let heading = Cells::new(heading).style(Modifier::BOLD);
        frame.render_widget(Table::new(cells, widths).header(heading), area);
    }

    /// Draws a list of requests.
    fn list(&mut self, frame: &mut Frame<'_>, area: Rect, mut requests: Vec<Request>) {
        requests.retain(|r| {
            self.matches(&[
                &r.service,
                &r.side,
                &r.protocol,
                &r.operation,
                &r.target,
                &r.status,
                &r.peer,
            ])
        });
        let names = self.view.names();
        let widths: Vec<_> = names.iter().map(|(_, width)| *width).collect();
        let heading = Cells::new(names.iter().map(|(name, _)| *name)).style(Modifier::BOLD);
        let cells = self.visible(requests, area).into_iter().map(|request| {
            let duration = request.duration.map_or("-".to_owned(), human_duration);
            let what = format!("{} {}", request.operation, request.target);
            Cells::new([
                Cell::new(request.at),
                Cell::new(Line::raw(duration).right_aligned()),
                Cell::new(request.service),
                Cell::new(request.side),
                Cell::new(request.protocol),
                Cell::new(request.status),
                Cell::new(what),
                Cell::new(request.peer),
            ])
        });
        frame.render_widget(Table::new(cells, widths).header(heading), area);
    }

    /// Whether one of the texts contains the filter.
    fn matches(&self, texts: &[&String]) -> bool {
        let filter = self.filter.to_lowercase();
        texts
            .iter()
            .any(|text| text.to_lowercase().contains(&filter))
    }

    /// The rows that are scrolled to; never past the last.
    fn visible<T>(&mut self, rows: Vec<T>, area: Rect) -> Vec<T> {
        let room = usize::from(area.height).saturating_sub(1);
        self.scroll = self.scroll.min(rows.len().saturating_sub(room));
        rows.into_iter().skip(self.scroll).take(room).collect()
    }
}

/// The one that follows, or comes before, in a circle.
fn next<T: Copy + PartialEq>(all: &[T], current: T, step: isize) -> T {
    let at = all.iter().position(|one| *one == current).unwrap_or(0);
    let at = (at as isize + step).rem_euclid(all.len() as isize);
    all[at as usize]
}

fn figure(order: Order, of: &Figures, seconds: f64) -> String {
    let duration = |nanos: Option<u64>| nanos.map_or("-".to_owned(), human_duration);
    match order {
        Order::Name => String::new(),
        Order::Rate => rate(of, seconds),
        Order::Errors => share(of),
        Order::P50 => duration(of.p50),
        Order::P95 => duration(of.p95),
        Order::P99 => duration(of.p99),
        Order::Max => duration(of.max),
        Order::Ever => of.ever.to_string(),
    }
}

/// Exchanges a second.
fn rate(of: &Figures, seconds: f64) -> String {
    format!("{:.1}", of.count as f64 / seconds.max(1.0))
}

/// Errors as a share.
fn share(of: &Figures) -> String {
    format!("{:.1}%", 100.0 * of.errors as f64 / of.count.max(1) as f64)
}

#[cfg(test)]
mod tests;
