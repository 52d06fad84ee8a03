// net/smtp, of Go's standard library.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log"
	"net/smtp"
	"os"
)

type job struct {
	Port      int
	IsTLS     bool   `json:"is_tls"`
	CAFile    string `json:"ca_file"`
	User      string
	Password  string
	Sender    string
	Recipient string
	Wire      string
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func main() {
	text, err := os.ReadFile(os.Args[1])
	check(err)
	var todo job
	check(json.Unmarshal(text, &todo))
	message, err := os.ReadFile(todo.Wire)
	check(err)

	client, err := smtp.Dial(fmt.Sprintf("localhost:%d", todo.Port))
	check(err)
	defer client.Close()
	check(client.Hello("go.example"))
	if todo.IsTLS {
		authority, err := os.ReadFile(todo.CAFile)
		check(err)
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(authority)
		check(client.StartTLS(&tls.Config{ServerName: "localhost", RootCAs: roots}))
	}
	if todo.User != "" {
		check(client.Auth(smtp.PlainAuth("", todo.User, todo.Password, "localhost")))
	}
	check(client.Mail(todo.Sender))
	check(client.Rcpt(todo.Recipient))
	data, err := client.Data()
	check(err)
	_, err = data.Write(message)
	check(err)
	check(data.Close())
	check(client.Quit())
}
