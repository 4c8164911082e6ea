// HTTPS with Go's standard library.
//
//	serve ADDRESS CERT KEY: HTTP/1.1 and HTTP/2; answers any GET, /fail with 500.
//	shop ADDRESS CERT KEY REDIS: HTTP/1.1 alone; /count/KEY counts in Redis, in the goroutine that
//	handles the request, and looks what it has counted in another one.
//	get ADDRESS TRACEPARENT COUNT: asks COUNT times in turn and COUNT times at once, with HTTP/1.1
//	and with HTTP/2, and prints how many answers were 200.
package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

func main() {
	command, address := os.Args[1], os.Args[2]
	switch command {
	case "serve":
		http.HandleFunc("/", answer)
		fmt.Fprintln(os.Stderr, http.ListenAndServeTLS(address, os.Args[3], os.Args[4], nil))
		os.Exit(1)
	case "shop":
		http.HandleFunc("/count/", func(response http.ResponseWriter, request *http.Request) {
			count(response, strings.TrimPrefix(request.URL.Path, "/count/"), os.Args[5])
		})
		server := &http.Server{Addr: address, TLSNextProto: noHTTP2}
		fmt.Fprintln(os.Stderr, server.ListenAndServeTLS(os.Args[3], os.Args[4]))
		os.Exit(1)
	case "get":
		count, _ := strconv.Atoi(os.Args[4])
		good := askAll(client(false), address, "one", os.Args[3], count)
		fmt.Println(good + askAll(client(true), address, "two", os.Args[3], count))
	}
}

var noHTTP2 = map[string]func(*http.Server, *tls.Conn, http.Handler){}

func count(response http.ResponseWriter, key, redis string) {
	counted := command(redis, "INCR "+key)
	looked := make(chan string)
	go func() { looked <- command(redis, "GET "+key) }()
	<-looked
	io.WriteString(response, counted)
}

// A command on a connection of its own, and the first bytes of the answer.
func command(redis, line string) string {
	connection, err := net.Dial("tcp", redis)
	if err != nil {
		panic(err)
	}
	defer connection.Close()
	io.WriteString(connection, line+"\r\n")
	answer := make([]byte, 64)
	length, _ := connection.Read(answer)
	return string(answer[:length])
}

func answer(response http.ResponseWriter, request *http.Request) {
	if request.URL.Path == "/fail" {
		response.WriteHeader(500)
	}
	io.WriteString(response, "It works.\n")
}

func client(http2 bool) *http.Client {
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true, ServerName: "go.example"},
		ForceAttemptHTTP2: http2,
	}
	return &http.Client{Transport: transport}
}

func ask(client *http.Client, url, traceparent string) int {
	request, err := http.NewRequest("GET", url, nil)
	if err != nil {
		panic(err)
	}
	if traceparent != "" {
		request.Header.Set("traceparent", traceparent)
	}
	response, err := client.Do(request)
	if err != nil {
		panic(err)
	}
	defer response.Body.Close()
	io.Copy(io.Discard, response.Body)
	return response.StatusCode
}

func askAll(client *http.Client, address, name, traceparent string, count int) int64 {
	var good int64
	one := func(path string) {
		if ask(client, "https://"+address+"/"+path, traceparent) == 200 {
			atomic.AddInt64(&good, 1)
		}
	}
	for n := 0; n < count; n++ {
		one(fmt.Sprintf("%s/in-turn?%d", name, n))
	}
	var group sync.WaitGroup
	for n := 0; n < count; n++ {
		group.Add(1)
		go func(n int) {
			defer group.Done()
			one(fmt.Sprintf("%s/at-once?%d", name, n))
		}(n)
	}
	group.Wait()
	one("fail")
	return good
}
