#!/bin/busybox sh
# The first and only program of the virtual machine. The kernel's command line gives $hooks, sets of
# hooks separated by commas. What it finds goes to the second serial port, each file behind a line
# `file NAME LENGTH`; what it says on the way goes to the first.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
mount -t tracefs none /sys/kernel/tracing
mount -t tmpfs none /tmp
ifconfig lo 127.0.0.1 up
cd /tmp
results=/dev/ttyS1
stty -F $results raw

emit() { # name, file
    printf 'file %s %s\n' "$1" "$(wc -c < "$2")" > $results
    cat "$2" > $results
}

wait_for() { # seconds, text, file, process
    for _ in $(seq $(($1 * 10))); do
        if grep -q "$2" "$3"; then return 0; fi
        kill -0 "$4" || return 1
        sleep 0.1
    done
    return 1
}

hold() { # scenario
    mkfifo "$1.go"
    workload run "$1" < "$1.go" > "$1.truth" 2>> workload.err &
    eval "$(echo "$1" | tr - _)=$!"
}

watch() { # hooks
    rm -f ./*
    hold held
    exec 3> held.go
    hold held-reading
    exec 4> held-reading.go
    wait_for 60 ready held.truth $held
    wait_for 60 ready held-reading.truth $held_reading
    wirespan tail --quiet --hooks "$1" -o jsonl > records 2> tail.err &
    tail=$!
    wait_for 60 '^wirespan: observing' tail.err $tail || echo "tail observes nothing" >> workload.err
    echo go >&3
    echo go >&4
    exec 3>&- 4>&-
    wait $held || echo "held failed" >> workload.err
    wait $held_reading || echo "held-reading failed" >> workload.err
    workload run all > all.truth 2>> workload.err || echo "all failed" >> workload.err
    sleep 1
    # Births and deaths are raw tracepoints (17), which are there twice.
    cat /proc/$tail/fdinfo/* 2> /dev/null |
        awk '/^prog_type/ { t = $2 } /^recursion_misses/ && t != 17 { n += $2 } END { print n + 0 }' > passed_over
    kill -INT $tail
    wait $tail || echo "tail ended with $?" >> workload.err
    cat ./*.truth | grep -v '^ready$' > truth
    emit "$1/truth" truth
    emit "$1/records" records
    emit "$1/passed_over" passed_over
    cat tail.err
    grep -v '^wirespan: observing' tail.err >> workload.err
    emit "$1/complaints" workload.err
}

# It tries each set for itself: once is enough, under emulation.
wirespan doctor --json > /tmp/doctor || echo "doctor ended with $?"
emit doctor /tmp/doctor

for set in $(echo "$hooks" | tr , ' '); do
    echo "=== $set"
    watch "$set" < /dev/null
done
emit end /dev/null
reboot -f
