// HTTPS with Go's standard library.
//
//	serve ADDRESS CERT KEY: HTTP/1.1 and HTTP/2; answers any GET, /fail with 500.
//	get ADDRESS TRACEPARENT COUNT: asks COUNT times in turn and COUNT times at once, with HTTP/1.1
//	and with HTTP/2, and prints how many answers were 200.
package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
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
	case "get":
		count, _ := strconv.Atoi(os.Args[4])
		good := askAll(client(false), address, "one", os.Args[3], count)
		fmt.Println(good + askAll(client(true), address, "two", os.Args[3], count))
	}
}

func answer(response http.ResponseWriter, request *http.Request) {
	if request.URL.Path == "/fail" {
		response.WriteHeader(500)
	}
	io.WriteString(response, "It works.\n")
}

func client(http2 bool) *http.Client {
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
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
