// 60 deliveries, each right after a refused body by the same client: prints how many failed.
package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
)

func post(token string, body []byte) int {
	request, _ := http.NewRequest("POST", os.Args[1], bytes.NewReader(body))
	request.Header.Set("X-LOX24-Token", token)
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	io.Copy(io.Discard, response.Body)
	return response.StatusCode
}

func main() {
	event, _ := os.ReadFile(os.Args[3])
	size, _ := strconv.Atoi(os.Args[4])
	failed := 0
	for i := 0; i < 60; i++ {
		post("guess", bytes.Repeat([]byte(" "), size))
		if post(os.Args[2], event) != 200 {
			failed++
		}
	}
	fmt.Println(failed)
}
