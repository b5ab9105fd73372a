use super::*;

const TIMEOUT: Duration = Duration::from_millis(500);

/// Runs one probe a second: `+` is answered after 1 ms, `-` never, `x` cannot be sent. Returns the state after each.
fn states(script: &str) -> (ProbeWindow, String) {
    let mut window = ProbeWindow::new(Thresholds { raise: 3, clear: 3 }, TIMEOUT);
    let mut now = Instant::now();
    let mut states = String::new();
    for (sequence, step) in (0..).zip(script.chars()) {
        match step {
            'x' => window.on_send_error(&io::Error::other("no buffer space"), now),
            _ => window.on_sent(sequence, now),
        }
        if step == '+' {
            window.on_reply(sequence, now + Duration::from_millis(1));
        }
        now += Duration::from_secs(1);
        window.on_time(now);
        states.push(match window.state() {
            WindowState::Pending => 'p',
            WindowState::Ok => 'o',
            WindowState::Failed => 'f',
        });
    }
    (window, states)
}

#[test]
fn three_in_a_row_change_the_state() {
    let table = [
        ("+", "o"),
        ("--+", "ppo"),
        ("---", "ppf"),
        ("+--+---", "oooooof"),
        ("---++-+++", "ppffffffo"),
        ("xxx", "ppf"),
        ("+xx", "ooo"),
    ];
    for (script, expected) in table {
        assert_eq!(states(script).1, expected, "{script}");
    }
}

#[test]
fn counts_and_loss() {
    let (window, _) = states("++-+");
    assert_eq!((window.sent, window.received, window.duplicates), (4, 3, 0));
    assert!((window.loss() - 0.25).abs() < f64::EPSILON);
    assert_eq!(window.rtt, Some(Duration::from_millis(1)));
}

#[test]
fn loss_is_over_after_thirty_answers() {
    let script = |answers: usize| format!("+-+-{}", "+".repeat(answers));
    assert_eq!(states(&script(29)).0.lost(), 2);
    assert_eq!(states(&script(30)).0.lost(), 0);
}

/// "2 of the last 31 were lost" is true of the last 31 probes.
#[test]
fn recent_losses_are_those_of_the_last_probes() {
    let answers = |n: usize| "+".repeat(n);
    let table = [
        (String::new(), (0, 0)),
        ("-".to_owned(), (1, 1)),
        (answers(60) + "-", (1, 61)),
        (format!("{}-{}", answers(60), answers(29)), (1, 90)),
        // The loss has left the window, and with it the knowledge about the probes before.
        (format!("{}-{}", answers(60), answers(30)), (0, 30)),
        (format!("{}-{}--", answers(60), answers(35)), (2, 37)),
        (answers(300) + "--", (2, 100)),
        // An outage is over.
        ("+------+++".to_owned(), (0, 1)),
    ];
    for (script, expected) in table {
        let (window, _) = states(&script);
        assert_eq!((window.lost(), window.recent()), expected, "{script}");
        let last = script.chars().rev().take(window.recent()).filter(|step| *step == '-').count();
        assert_eq!(last, window.lost(), "{script}");
    }
}

#[test]
fn a_second_answer_is_a_duplicate_and_a_late_one_no_success() {
    let mut window = ProbeWindow::new(Thresholds { raise: 3, clear: 3 }, TIMEOUT);
    let now = Instant::now();
    window.on_sent(7, now);
    assert_eq!(window.deadline(), Some(now + TIMEOUT));
    window.on_reply(7, now);
    window.on_reply(7, now);
    window.on_sent(8, now);
    window.on_time(now + TIMEOUT);
    window.on_reply(8, now + TIMEOUT);
    assert_eq!((window.received, window.duplicates, window.deadline()), (1, 2, None));
}
