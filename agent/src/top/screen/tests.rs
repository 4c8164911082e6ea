use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;

fn row(service: &str, operation: &str, count: u64, errors: u64, p99: u64) -> Row {
    Row {
        service: service.to_owned(),
        side: "server".to_owned(),
        protocol: "http".to_owned(),
        operation: operation.to_owned(),
        figures: Figures {
            count,
            errors,
            p50: Some(p99 / 2),
            p95: Some(p99),
            p99: Some(p99),
            max: Some(p99),
            ever: count,
        },
        ..Row::default()
    }
}

fn screen() -> Screen {
    let mut screen = Screen::new("a test".to_owned());
    let rows = vec![
        row("cart", "GET /cart", 10, 1, 9_000_000),
        row("shop", "GET /", 30, 0, 2_000_000),
        row("users", "POST /login", 20, 5, 4_000_000),
    ];
    screen.show(Picture {
        seconds: 10.0,
        services: rows.clone(),
        operations: rows,
        failed: vec![Request {
            target: "/broken".to_owned(),
            status: "500".to_owned(),
            ..Request::default()
        }],
        ..Picture::default()
    });
    screen
}

/// The lines of a window of this size.
fn drawn(screen: &mut Screen, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    terminal.draw(|frame| screen.draw(frame)).expect("a screen");
    let buffer = terminal.backend().buffer();
    let lines = buffer.content().chunks(usize::from(width));
    lines
        .map(|line| line.iter().map(|cell| cell.symbol()).collect())
        .collect()
}

/// First words of the table's rows.
fn names(screen: &mut Screen) -> Vec<String> {
    let lines = drawn(screen, 100, 12);
    let words = lines[3..11]
        .iter()
        .map(|line| line.split_whitespace().next());
    words.flatten().map(str::to_owned).collect()
}

fn press(screen: &mut Screen, keys: &str) {
    for key in keys.chars() {
        let code = match key {
            '\n' => KeyCode::Enter,
            '\x1b' => KeyCode::Esc,
            '\t' => KeyCode::Tab,
            key => KeyCode::Char(key),
        };
        assert_eq!(screen.key(KeyEvent::from(code)), Then::Continue);
    }
}

#[test]
fn rows_are_ordered_by_the_column_that_was_chosen() {
    let mut screen = screen();
    assert_eq!(names(&mut screen), ["shop", "users", "cart"]);
    press(&mut screen, "s");
    assert_eq!(names(&mut screen), ["users", "cart", "shop"]);
    press(&mut screen, "r");
    assert_eq!(names(&mut screen), ["shop", "cart", "users"]);
    press(&mut screen, "rSS");
    assert_eq!(names(&mut screen), ["cart", "shop", "users"]);
}

#[test]
fn a_filter_leaves_what_contains_it_until_it_is_cleared() {
    let mut screen = screen();
    press(&mut screen, "2/LOGIN\n");
    assert_eq!(names(&mut screen), ["users"]);
    // The letters were not commands.
    press(&mut screen, "\x1b");
    assert_eq!(names(&mut screen), ["shop", "users", "cart"]);
    press(&mut screen, "/q\n");
    assert!(names(&mut screen).is_empty());
}

#[test]
fn figures_are_a_second_a_share_and_times() {
    let lines = drawn(&mut screen(), 100, 12);
    let users = lines.iter().find(|line| line.starts_with("users"));
    let figures: Vec<_> = users.expect("a row").split_whitespace().skip(2).collect();
    assert_eq!(
        figures,
        ["2.0", "25.0%", "2.0ms", "4.0ms", "4.0ms", "4.0ms", "20"]
    );
}

#[test]
fn views_change_in_a_circle_and_lists_show_requests() {
    let mut screen = screen();
    press(&mut screen, "5");
    assert!(drawn(&mut screen, 120, 12)[3].contains("/broken"));
    press(&mut screen, "\t");
    assert_eq!(names(&mut screen).len(), 3);
}

#[test]
fn a_held_screen_keeps_its_picture_and_one_that_ended_says_why() {
    let mut screen = screen();
    press(&mut screen, "p");
    screen.show(Picture::default());
    assert_eq!(names(&mut screen).len(), 3);
    press(&mut screen, "p");
    screen.show(Picture::default());
    assert!(names(&mut screen).is_empty());
    screen.end("the agent has stopped".to_owned());
    let lines = drawn(&mut screen, 100, 12);
    assert!(lines[11].contains("the agent has stopped"), "{lines:?}");
}

#[test]
fn a_window_that_is_too_small_says_so_and_none_is_too_small_to_draw() {
    let mut screen = screen();
    let text = drawn(&mut screen, 40, 4).concat();
    assert!(text.contains("40x4"), "{text}");
    for (width, height) in [(1, 1), (1, 50), (200, 1), (60, 8), (3, 3)] {
        for view in "12345".chars() {
            press(&mut screen, &view.to_string());
            drawn(&mut screen, width, height);
        }
    }
}

#[test]
fn scrolling_ends_at_the_last_row() {
    let mut screen = screen();
    let rows = (0..40).map(|i| row(&format!("s{i:02}"), "", 100 - i, 0, 1));
    screen.show(Picture {
        services: rows.collect(),
        ..Picture::default()
    });
    press(&mut screen, &"j".repeat(100));
    let shown = names(&mut screen);
    assert_eq!(shown.last().map(String::as_str), Some("s39"));
    press(&mut screen, "k");
    assert_eq!(names(&mut screen).last().map(String::as_str), Some("s38"));
}

#[test]
fn q_and_control_c_quit_also_while_a_filter_is_typed() {
    let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(screen().key(KeyEvent::from(KeyCode::Char('q'))), Then::Quit);
    let mut screen = screen();
    press(&mut screen, "/q");
    assert_eq!(screen.key(control_c), Then::Quit);
}
