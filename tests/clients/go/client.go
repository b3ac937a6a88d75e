// The Go SDK as an agent would use it. Verbs and outputs are those of every client here; see tests/README.md.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/feature/s3/manager"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
)

var ctx = context.Background()

func main() {
	if err := run(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(verb string, args []string) error {
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return err
	}
	switch verb {
	case "sts":
		answer, err := sts.NewFromConfig(cfg).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
		if err != nil {
			return err
		}
		fmt.Println(*answer.Arn)
		return nil
	case "s3": // BUCKET KEY FROM TO
		return roundTrip(cfg, args[0], args[1], args[2], args[3])
	case "keys": // BUCKET FROM TO KEY...
		return hardKeys(cfg, args[0], args[1], args[2], args[3:])
	case "list": // BUCKET PREFIX DELIMITER
		return list(cfg, args[0], args[1], args[2])
	case "dynamodb": // TABLE VALUE
		return table(cfg, args[0], args[1])
	case "denied":
		return denied(cfg)
	}
	return fmt.Errorf("unknown verb %s", verb)
}

func roundTrip(cfg aws.Config, bucket, key, from, to string) error {
	client := s3.NewFromConfig(cfg)
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	uploader := manager.NewUploader(client)
	if _, err = uploader.Upload(ctx, &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: source}); err != nil {
		return err
	}
	answer, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: &key})
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	target, err := os.Create(to)
	if err != nil {
		return err
	}
	defer target.Close()
	_, err = io.Copy(target, answer.Body)
	return err
}

func hardKeys(cfg aws.Config, bucket, from, to string, keys []string) error {
	client := s3.NewFromConfig(cfg)
	for n := range keys {
		source, err := os.Open(fmt.Sprintf("%s/%d", from, n))
		if err != nil {
			return err
		}
		defer source.Close()
		if _, err = client.PutObject(ctx, &s3.PutObjectInput{Bucket: &bucket, Key: &keys[n], Body: source}); err != nil {
			return fmt.Errorf("%s: %w", keys[n], err)
		}
	}
	for n := range keys {
		answer, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: &keys[n]})
		if err != nil {
			return fmt.Errorf("%s: %w", keys[n], err)
		}
		defer answer.Body.Close()
		bytes, err := io.ReadAll(answer.Body)
		if err != nil {
			return err
		}
		if err = os.WriteFile(fmt.Sprintf("%s/%d", to, n), bytes, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func list(cfg aws.Config, bucket, prefix, delimiter string) error {
	answer, err := s3.NewFromConfig(cfg).ListObjectsV2(ctx,
		&s3.ListObjectsV2Input{Bucket: &bucket, Prefix: &prefix, Delimiter: &delimiter})
	if err != nil {
		return err
	}
	keys := []string{}
	for _, object := range answer.Contents {
		keys = append(keys, *object.Key)
	}
	return json.NewEncoder(os.Stdout).Encode(keys)
}

func table(cfg aws.Config, name, value string) error {
	client := dynamodb.NewFromConfig(cfg)
	id := "id"
	_, err := client.CreateTable(ctx, &dynamodb.CreateTableInput{
		TableName:            &name,
		BillingMode:          types.BillingModePayPerRequest,
		AttributeDefinitions: []types.AttributeDefinition{{AttributeName: &id, AttributeType: types.ScalarAttributeTypeS}},
		KeySchema:            []types.KeySchemaElement{{AttributeName: &id, KeyType: types.KeyTypeHash}},
	})
	if err != nil {
		return err
	}
	key := map[string]types.AttributeValue{"id": &types.AttributeValueMemberS{Value: "1"}}
	item := map[string]types.AttributeValue{"id": key["id"], "value": &types.AttributeValueMemberS{Value: value}}
	if _, err = client.PutItem(ctx, &dynamodb.PutItemInput{TableName: &name, Item: item}); err != nil {
		return err
	}
	answer, err := client.GetItem(ctx, &dynamodb.GetItemInput{TableName: &name, Key: key})
	if err != nil {
		return err
	}
	fmt.Println(answer.Item["value"].(*types.AttributeValueMemberS).Value)
	return nil
}

// What each call of a session that may do nothing gets: name, code, message, request id.
func denied(cfg aws.Config) error {
	bucket := "tollgate-test"
	calls := []struct {
		name string
		call func() error
	}{
		{"query", func() error {
			_, err := sts.NewFromConfig(cfg).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
			return err
		}},
		{"rest-xml, route53", func() error {
			_, err := route53.NewFromConfig(cfg).ListHostedZones(ctx, &route53.ListHostedZonesInput{})
			return err
		}},
		{"json", func() error {
			_, err := dynamodb.NewFromConfig(cfg).ListTables(ctx, &dynamodb.ListTablesInput{})
			return err
		}},
		{"rest-json", func() error {
			_, err := lambda.NewFromConfig(cfg).ListFunctions(ctx, &lambda.ListFunctionsInput{})
			return err
		}},
		{"rest-xml", func() error {
			_, err := s3.NewFromConfig(cfg).ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &bucket})
			return err
		}},
	}
	for _, c := range calls {
		err := c.call()
		var api smithy.APIError
		var response *awshttp.ResponseError
		if !errors.As(err, &api) || !errors.As(err, &response) {
			return fmt.Errorf("%s: not an error of the API: %v", c.name, err)
		}
		line := []string{c.name, api.ErrorCode(), api.ErrorMessage(), response.ServiceRequestID()}
		if err := json.NewEncoder(os.Stdout).Encode(line); err != nil {
			return err
		}
	}
	return nil
}
